"""Train one config on one fold: the loop itself, its protocols, and its resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feature_store.feature_statistics import moments
from workers.augment import augmented, build_augment
from workers.averaging import build_averaging
from workers.checkpoint import CheckpointFolder
from workers.config import ExperimentConfig
from workers.data import FoldData
from workers.device import Rows, autocast, compiled, determinism, peak_bytes
from workers.evaluation import Score, evaluate
from workers.models import build_model
from workers.objectives import build_objective
from workers.optimisation import Schedule, build_optimizer
from workers.sampling import Sampling
from workers.test_side import NoteRead, SealedSide

CHECKPOINT_SECONDS = 30.0
REPORT_EVERY = 5.0  # seconds within an epoch
Report = Callable[[str], None]


class Diverged(RuntimeError):
    """The loss is no longer a number: the config's fault, not the machine's. Never retried."""


class Stopped(RuntimeError):
    """The run was asked to stop; its checkpoint stays, and the same run goes on from there."""


@dataclass(frozen=True)
class Answers:
    """What one protocol's weights said.

    Attributes:
        epoch: whose weights they are.
        guarded: whether the epoch was chosen by its Score; False where none reached `training.min_sensitivity`, so
            that the last one stands in for it.
        test: ``[cycles, classes]`` logits of the test side.
        validation: the same of the held-out side; None for `test_best`, which does not know it.
    """

    epoch: int
    guarded: bool
    test: np.ndarray
    validation: np.ndarray | None


@dataclass
class Trained:
    """What came out of one training.

    Attributes:
        protocols: how each chose its epoch and what its weights said.
        epochs: one mapping per epoch: losses, learning rate, seconds, Score of the held-out patients.
        weights: state dict of the model at the config's protocol, on the CPU.
        pretrained: what became of the entries of the pretrained file; None without one.
        test_reads: how often the test side was read.
    """

    protocols: dict[str, Answers]
    epochs: list[dict[str, Any]]
    weights: dict[str, Tensor]
    parameters: int
    pretrained: dict[str, Any] | None
    test_reads: int
    first_step_seconds: float
    train_seconds: float
    peak_bytes: int


@dataclass
class Chosen:
    """Weights of the best epoch so far under one protocol."""

    epoch: int = 0
    score: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, score: float, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Keep the epoch if it is better than all before it; of equal ones the first stays."""
        if score > self.score:
            self.epoch, self.score, self.weights = epoch, score, weights()


def train_fold(
    config: ExperimentConfig,
    data: FoldData,
    *,
    seed: int,
    on_test_read: NoteRead,
    device: torch.device | str = "cpu",
    pretrained: Path | None = None,
    checkpoint: CheckpointFolder | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Report = lambda text: None,
    should_stop: Callable[[], bool] | None = None,
) -> Trained:
    """Train a config on one fold, choose epochs without the test side, then read the test side once.

    With a checkpoint folder, an earlier, killed run of the same fold goes on where it was, to the same numbers.

    Args:
        config: everything but the data.
        data: the fold's rows and sides.
        seed: of initialisation, order, mixing, masks and dropout.
        on_test_read: writes down each reading of the test side, before it happens; where it raises, nothing is read.
        device: where features, model and loop live.
        pretrained: local copy of the config's pretrained file.
        checkpoint: where the full state is kept between epochs.
        on_epoch: called with each epoch's record.
        on_progress: called every few seconds within an epoch, with how far it is.
        should_stop: asked between steps; True raises `Stopped`.

    Raises:
        Diverged: the loss became NaN or infinite.
        Stopped: `should_stop` said so.
        UserError: the config does not fit the data.
    """
    started = time.perf_counter()
    with determinism(config.training.deterministic):
        run = _Run(config, data, seed, torch.device(device), pretrained, started, on_test_read)
        run.resume(checkpoint)
        while run.epoch < config.training.epochs and not run.stale:
            record = run.train_epoch(on_progress, should_stop)
            run.choose(record)
            run.epochs.append(record)
            if on_epoch:
                on_epoch(record)
            run.save(checkpoint)
        return run.finish()


class _Run:
    """The parts of one training and their state."""

    def __init__(
        self,
        config: ExperimentConfig,
        data: FoldData,
        seed: int,
        device: torch.device,
        pretrained: Path | None,
        started: float,
        on_test_read: NoteRead | None = None,
    ) -> None:
        self.config, self.data, self.device, self.started = config, data, device, started
        torch.manual_seed(seed)  # initialisation and dropout
        self.generator = torch.Generator().manual_seed(seed)  # order, mixing, masks: on the CPU, so equal everywhere
        shape = config.feature.shape
        self.model = build_model(config.model, shape, data.classes, pretrained, scalars=config.feature.scalars)
        # channels last halves the time of convolutions on a CPU
        self.model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampling = Sampling(config.training, data, self.generator)
        self.rows = Rows(data, "train", device, self.sampling.joined)
        self.held_out = Rows(data, "validation", device)
        self.test = SealedSide(data, device, on_test_read)
        if config.model.standardize == "train":
            _, *statistics = moments(data.originals, data.train)
            self.model.set_statistics(*statistics)
        if data.scalars is not None:
            self.model.set_scalar_statistics(torch.from_numpy(data.scalars[data.train]))
        counts = self.sampling.class_counts
        self.objective = build_objective(config.objective, self.model.feature_dim, counts).to(device)
        self.augment = build_augment(config.augment, shape)
        self.trained = nn.ModuleList([self.model, self.objective])
        self.optimizer = build_optimizer(config.optim, self.trained.parameters(), device)
        self.averaging = build_averaging(config.training.average, self.trained)
        self.schedule = Schedule(config.optim, epochs=config.training.epochs, steps_per_epoch=self.sampling.steps)
        self.autocast = autocast(config.training.precision, device)
        self.loss = compiled(self.objective, config.training.compile)
        self.epoch = 0
        self.epochs: list[dict[str, Any]] = []
        self.validation, self.test_best = Chosen(), Chosen()
        self.seconds_before = 0.0
        self.first_step_seconds = 0.0
        self.saved_at = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    # --- one epoch ---

    def train_epoch(self, on_progress: Report, should_stop: Callable[[], bool] | None) -> dict[str, Any]:
        """One epoch of training batches, in a new order."""
        begun = reported = time.perf_counter()
        self.epoch += 1
        self.objective.begin_epoch(self.epoch)
        self.trained.train()
        totals: dict[str, Tensor] = {}
        batches = self.sampling.epoch(self.generator)
        for step, batch in enumerate(batches):
            if should_stop and should_stop():
                raise Stopped(f"stopped in epoch {self.epoch}")
            rate = self.schedule.apply(self.optimizer, self.epoch, step)
            parts = self._step(batch)
            for name, value in parts.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value
            now = time.perf_counter()
            self.first_step_seconds = self.first_step_seconds or now - self.started
            if now - reported >= REPORT_EVERY:
                reported, left = now, (now - begun) / (step + 1) * (len(batches) - step - 1)
                on_progress(f"epoch {self.epoch}: step {step + 1} of {len(batches)}, about {left:.0f} s left in it")
        means = {name: float(value) / len(batches) for name, value in totals.items()}
        if not np.isfinite(means["total"]):
            raise Diverged(f"the loss is {means['total']} in epoch {self.epoch}: lower optim.lr or raise tau")
        record = {
            "epoch": self.epoch,
            "train_loss": means.pop("total"),
            "parts": means,
            "lr": rate,
            "seconds": round(time.perf_counter() - begun, 4),
        }
        return record | ({"notes": notes} if (notes := self.objective.notes(means)) else {})

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        x, y = self.rows.take(batch, self.generator)
        x = augmented(x, self.augment, self.generator)
        with self.autocast():
            loss = self.loss(self.model, x, y, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        if self.config.optim.clip_norm:
            nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        self.averaging.after_step()
        return {"total": loss.total.detach(), **loss.parts}

    # --- choosing an epoch ---

    @property
    def stale(self) -> bool:
        """Whether the held-out patients have heard nothing better for `training.patience` epochs."""
        patience = self.config.training.patience
        return patience is not None and self.epoch - self.validation.epoch >= patience

    def choose(self, record: dict[str, Any]) -> None:
        """Score the held-out patients, and the test side where it is watched; nothing flows back from either."""
        record["validation"] = self._offer(self.held_out, self.validation)
        if self.config.training.watch_test:
            record["test"] = self._offer(self.test.read(self.epoch, "watched"), self.test_best)

    def _offer(self, rows: Rows, chosen: Chosen) -> dict[str, float]:
        """Score a side and keep the epoch if it is the best so far that hears enough."""
        metrics = evaluate(self._predict(rows), rows.labels.cpu().numpy())
        metric = self.config.training.metric or self.data.summary.metric
        score: Score = metrics.score_for(metric)
        if score.sensitivity > self.config.training.min_sensitivity or not self.config.training.min_sensitivity:
            chosen.offer(self.epoch, metrics.value(metric), self._weights)
        return score.model_dump() | {"accuracy": metrics.accuracy, "uar": metrics.uar}

    @torch.inference_mode()
    def _predict(self, rows: Rows) -> np.ndarray:
        """Logits ``[cycles, classes]`` of a side under the weights that count."""
        self.trained.eval()
        with self.averaging.evaluated_weights(), self.autocast():
            logits = [
                self.model(rows.take(b)[0]).float() for b in rows.positions.split(self.config.training.eval_batch_size)
            ]
        together = torch.cat(logits).cpu().numpy()
        if not np.isfinite(together).all():
            raise Diverged(f"the model's outputs are no numbers after epoch {self.epoch}: lower optim.lr or raise tau")
        return together

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights as they are evaluated, on the CPU."""
        with self.averaging.evaluated_weights():
            return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    # --- the end ---

    def finish(self) -> Trained:
        """Read the test side once, with the weights of each protocol."""
        seconds = self._seconds()
        last = Chosen(self.epoch, 0.0, self._weights())
        chosen = {"last": last, "validation": self.validation}
        if self.config.training.watch_test:
            chosen["test_best"] = self.test_best
        guarded = {name: bool(choice.weights) for name, choice in chosen.items()}
        chosen = {name: choice if choice.weights else last for name, choice in chosen.items()}
        self.averaging = build_averaging(self.config.training.average.model_copy(update={"name": "none"}), self.trained)
        test, protocols = self.test.read(self.epoch, "end"), {}
        for name, choice in chosen.items():
            self.model.load_state_dict(choice.weights)
            held_out = self._predict(self.held_out) if name != "test_best" else None
            protocols[name] = Answers(choice.epoch, guarded[name], self._predict(test), held_out)
        return Trained(
            protocols=protocols,
            epochs=self.epochs,
            weights=chosen[self.config.training.protocol].weights,
            parameters=sum(p.numel() for p in self.model.parameters()),
            pretrained=report.summary() if (report := self.model.load_report) else None,
            test_reads=self.test.reads,
            first_step_seconds=self.first_step_seconds,
            train_seconds=seconds,
            peak_bytes=peak_bytes(self.device),
        )

    # --- state ---

    def save(self, checkpoint: CheckpointFolder | None) -> None:
        """Keep the full state, at most every `CHECKPOINT_SECONDS`: for a short run that is never."""
        if checkpoint is None or time.perf_counter() - self.saved_at < CHECKPOINT_SECONDS:
            return
        checkpoint.save(
            {
                "model": self.model.state_dict(),
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "averaging": self.averaging.state_dict(),
                "generator": self.generator.get_state(),
                "torch_rng": torch.get_rng_state(),
                "device_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
                "epoch": self.epoch,
                "epochs": self.epochs,
                "chosen": {name: vars(getattr(self, name)) for name in ("validation", "test_best")},
                "test_reads": self.test.reads,
                "seconds": self._seconds(),
            }
        )
        self.saved_at = time.perf_counter()

    def resume(self, checkpoint: CheckpointFolder | None) -> None:
        """Take up a saved state, if there is one."""
        state = checkpoint.load() if checkpoint else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.load_state_dict(state["averaging"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        if state["device_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_rng"], self.device)
        self.epoch, self.epochs, self.test.reads = state["epoch"], state["epochs"], state["test_reads"]
        self.validation = Chosen(**state["chosen"]["validation"])
        self.test_best = Chosen(**state["chosen"]["test_best"])
        self.seconds_before = state["seconds"]

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started
