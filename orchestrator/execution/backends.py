"""Who runs a fold run: Ray tasks that train, or a simulation that publishes made-up results at once."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from orchestrator.execution.fold_tasks import Outcome, outcome, submit
from orchestrator.execution.gpu_sharing import Slot
from workers.fold import FoldRun, Site

if TYPE_CHECKING:
    from workers.results import FoldKey


WAITS = (1.0, 5.0, 20.0)  # seconds before each further attempt after a machine's fault


class Backend(Protocol):
    """Runs one fold run to its end. Pickled into every trial's process."""

    def run(self, run: FoldRun, key: FoldKey, site: Site, slot: Slot) -> Outcome:
        """Publish the run's result, or say why there is none."""


@dataclass(frozen=True)
class RayBackend:
    """Trains, as a Ray task somewhere on the cluster.

    A machine's fault is tried again after a while, a few times; a device that was too small for a run beside others is
    tried once more with a device of its own; a config's fault is never tried again.
    """

    def run(self, run: FoldRun, key: FoldKey, site: Site, slot: Slot) -> Outcome:
        return self.finish(submit(run, site, slot), run, site, slot)

    def finish(self, started: Any, run: FoldRun, site: Site, slot: Slot) -> Outcome:
        """Wait for a fold run that was submitted, and try it again where that can help."""
        ended = outcome(started)
        for wait in WAITS:
            if ended.fault != "machine":
                break
            time.sleep(wait)
            ended = outcome(submit(run, site, slot))
        if ended.fault == "memory" and 0 < slot.gpus < 1:
            alone = outcome(submit(run, site, replace(slot, gpus=1.0)))
            if alone.hash is None:
                told = f"on {slot.gpus:g} of a GPU, then alone on one: {alone.error}"
                return replace(alone, error=told)
            return alone
        return ended


@dataclass(frozen=True)
class SimulatedBackend:
    """Publishes a result without training, to measure and test the orchestration itself.

    Attributes:
        recorded: Score of each fold by config hash, to play a recorded sweep back; another config's Score is drawn from
            its hash.
        seconds: that a fold run is made to take.
        epochs: of the made-up curve.
        peak_bytes, device_bytes: that a fold run is made to take, of the device it is made to run on. A run whose share
            is too small for it ends out of memory.
    """

    recorded: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: int = 10
    peak_bytes: int = 0
    device_bytes: int = 0

    def run(self, run: FoldRun, key: FoldKey, site: Site, slot: Slot) -> Outcome:
        from workers.results import LOG, PREDICTIONS, ResultStore

        time.sleep(self.seconds)
        if self.peak_bytes > slot.gpus * self.device_bytes:
            error = f"out of memory: {self.peak_bytes} bytes on {slot.gpus:g} of {self.device_bytes}"
            return Outcome(None, error, fault="memory")
        own = self.recorded.get(run.config.config_hash, {})
        score = own[run.fold] if run.fold in own else drawn_score(key)
        result, predictions = simulated_result(run, key, score, self.epochs, self.seconds)
        result.memory.update(peak_bytes=self.peak_bytes, device_bytes=self.device_bytes)
        ResultStore.open(site.results).publish(result, {PREDICTIONS: predictions, LOG: b""})
        return Outcome(hash=key.hash)


def drawn_score(key: FoldKey) -> float:
    """A Score by a config's own effect, the fold's, and noise, each drawn from a hash: the same on every machine."""

    def normal(*parts: Any) -> float:
        seed = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
        return float(np.random.default_rng(seed).normal())

    score = 50 + 4 * normal(key.config_hash) + 6 * normal("fold", key.fold) + 2 * normal(key.config_hash, key.fold)
    return float(np.clip(score, 1.0, 99.0))


def simulated_result(run: FoldRun, key: FoldKey, score: float, epochs: int, seconds: float) -> tuple[Any, bytes]:
    """A whole result of 400 made-up cycles whose Score is, to a quarter of a point, the one wanted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from workers import provenance
    from workers.evaluation import evaluate
    from workers.results import LOG, PREDICTIONS, DataSummary, FoldResult, ProtocolResult, Provenance

    labels = np.repeat([0, 1, 2, 3], [200, 100, 60, 40])
    hit = np.zeros(len(labels), dtype=bool)
    for part in (slice(0, 200), slice(200, 400)):
        hit[part][: round(2 * score)] = True
    logits = np.eye(4, dtype=np.float32)[np.where(hit, labels, (labels + 1) % 4)]
    logits[labels > 0] = np.eye(4, dtype=np.float32)[np.where(hit, labels, 0)][labels > 0]
    metrics = evaluate(logits, labels)
    protocols = {
        name: ProtocolResult(epoch=epochs, test=metrics, validation=metrics) for name in ("last", "validation")
    }
    summary = DataSummary(
        dataset=run.config.dataset, task=run.config.task, classes=["normal", "crackle", "wheeze", "both"],
        synthetic=True, recordings=40, recordings_listed=40, train=400, validation=40, test=400, train_patients=20,
        validation_patients=4, test_patients=20, train_class_counts=[200, 100, 60, 40], patients_on_both_sides=[],
    )  # fmt: skip
    curve = [
        {"epoch": e, "train_loss": 1.4 / e, "parts": {"ce": 1.4 / e}, "lr": 1e-3, "seconds": seconds / epochs}
        | {"validation": metrics.icbhi4.model_dump()}
        for e in range(1, epochs + 1)
    ]
    now = provenance.now()
    result = FoldResult(
        hash=key.hash, key=key, config=run.config.model_dump(mode="json"), protocols=protocols, epochs=curve,
        data=summary, model={"parameters": 1, "pretrained": None},
        provenance=Provenance(
            **provenance.versions(), git_commit="unknown", device="simulated", started=now, finished=now, command=""
        ),
        timing={"train_seconds": seconds, "total_seconds": seconds, "first_step_seconds": 0.0},
        memory={}, test_reads=1, files={name: name for name in (PREDICTIONS, LOG)},
    )  # fmt: skip
    count = len(labels)
    table = pa.table(
        {
            "cycle_id": [f"simulated#{i:03d}" for i in range(count)],
            "patient": [str(i % 20) for i in range(count)],
            "device": ["simulated"] * count,
            "label": labels.astype(np.int8),
            "side": ["test"] * count,
            "protocol": ["last"] * count,
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 4).cast(pa.list_(pa.float32())),
        }
    )
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables([table, table.set_column(5, "protocol", [["validation"] * count])]), sink)
    return result, sink.getvalue()
