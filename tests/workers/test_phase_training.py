"""Training of the breathing-phase classifier: its schedule, early stop, tiny sides, accuracy, resume.

Specified in docs/specification.md, 5.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import nn

import workers.training as training
from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.features import NAMED
from feature_store.store import FeatureStore
from search_spaces.overrides import merge
from search_spaces.presets import load_preset
from tests.support.breathing_clips import write_clips
from tests.workers.test_training import curve, same, train
from workers.checkpoint import CheckpointFolder
from workers.config import ExperimentConfig
from workers.config.training import OptimConfig
from workers.data import FoldData, load_fold
from workers.device import Rows
from workers.evaluation import evaluate
from workers.inputs import WithScalars
from workers.optimisation import Schedule
from workers.training import Stopped, _Run

pytestmark = pytest.mark.slow

SMALL = {"model": {"resize": 0.25}, "training": {"epochs": 4, "batch_size": 16, "patience": None}}


def config_with(name: str = "cnn8", **changes: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(merge(merge(load_preset(f"breathing_phase_{name}"), SMALL), changes))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    root = write_clips(tmp_path_factory.mktemp("clips"), count=72)
    store = FeatureStore.open(str(tmp_path_factory.mktemp("store")), create=True)
    build(open_corpus("breathing-phase", root), NAMED["phase9"], store, workers=0)
    return store


@pytest.fixture(scope="module")
def data(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    split = store.split("breathing-phase", "grouped", task="phase2")
    return load_fold(store, config_with(), split, 0, 0, tmp_path_factory.mktemp("cache"))


# --- schedule ---


@pytest.mark.spec("T4")
@pytest.mark.parametrize(("epochs", "steps"), [(100, 6), (140, 6), (7, 3)])
def test_warm_up_and_cosine_by_step_are_pytorchs(epochs: int, steps: int) -> None:
    config = OptimConfig(lr=4e-4, schedule="warmup_cosine", warmup_share=0.05, lowest_lr=1e-6)
    schedule, total = Schedule(config, epochs=epochs, steps_per_epoch=steps), epochs * steps
    rising = int(0.05 * total)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=4e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - rising, eta_min=1e-6)
    parts: list[Any] = [cosine]
    if rising:
        linear = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=rising)
        parts = [linear, cosine]
    reference = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[rising]) if rising else cosine
    for done in range(total):
        wanted = optimizer.param_groups[0]["lr"]
        assert schedule.rate(1 + done // steps, done % steps) == pytest.approx(wanted, rel=1e-6), done
        optimizer.step()
        reference.step()


@pytest.mark.spec("T4")
@pytest.mark.parametrize("change", [{"warmup_epochs": 2}, {"lowest_lr": 1.0}])
def test_two_warm_ups_or_an_end_above_the_rate_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"warm|lowest_lr"):
        OptimConfig(schedule="warmup_cosine", **change)


# --- the loop ---


@pytest.mark.parametrize("name", ["cnn8", "vgg"])
def test_it_learns_to_tell_made_up_phases_apart(data: FoldData, name: str) -> None:
    trained = train(config_with(name, objective={"plain_epochs": 6}, training={"epochs": 6, "batch_size": 8}), data)
    metrics = evaluate(trained.protocols["last"].test, data.labels[data.test])
    assert metrics.accuracy > 80 and metrics.n == len(data.test)
    assert trained.protocols["last"].test.shape == (len(data.test), 2)


@pytest.mark.spec("T1", "T6")
def test_the_preset_trains_with_adamw_decoupled_decay_and_clipped_gradients(data: FoldData) -> None:
    run = _Run(config_with(), data, 0, torch.device("cpu"), None, 0.0)
    assert type(run.optimizer) is torch.optim.AdamW and run.optimizer.defaults["weight_decay"] == 1e-4
    run.trained.train()
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    with torch.no_grad():
        for parameter in run.model.head.parameters():
            parameter.mul_(50)  # large gradients
    run._step(torch.arange(16))
    norm = torch.stack([p.grad.norm() for p in run.trained.parameters() if p.grad is not None]).norm()
    assert 0.99 < float(norm) <= 1.001


@pytest.mark.spec("T10")
def test_a_tested_side_smaller_than_a_batch_is_scored_whole(data: FoldData) -> None:
    """The source drops the last batch of its evaluation too: its 800 clips at batch 1,024 are none, and it crashes."""
    config = config_with(training={"epochs": 1, "eval_batch_size": 1024})
    assert config.training.drop_last and len(data.test) < 1024
    trained = train(config, data)
    assert len(trained.protocols["last"].test) == len(data.test)


@pytest.mark.spec("T10")
def test_a_training_side_smaller_than_a_batch_is_one_batch(data: FoldData) -> None:
    trained = train(config_with(training={"epochs": 1, "batch_size": 512}), data)
    assert np.isfinite(trained.epochs[0]["train_loss"])


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Held-out predictions of which so many percent are right, epoch by epoch, whatever was trained."""
    answers = iter(accuracies)

    def predict(self: _Run, rows: Rows) -> np.ndarray:
        labels = rows.labels.numpy()
        right = round(next(answers, 0.0) / 100 * len(labels))
        said = np.where(np.arange(len(labels)) < right, labels, 1 - labels)
        return np.eye(2, dtype=np.float32)[said]

    monkeypatch.setattr(training._Run, "_predict", predict)


@pytest.mark.spec("T11", "T14")
def test_the_epoch_of_the_best_accuracy_is_chosen_and_the_run_stops_after_its_patience(
    data: FoldData, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [50, 80, 60, 80, 70, 100])
    trained = train(config_with(training={"epochs": 6, "patience": 3}), data)
    assert len(trained.epochs) == 5, "the best was epoch 2, and 3 without a better one followed"
    assert trained.protocols["validation"].epoch == 2, "of equal ones the first"
    assert trained.protocols["last"].epoch == 5
    count = len(data.validation)
    told = [record["validation"]["accuracy"] for record in trained.epochs]
    assert told == pytest.approx([100 * round(share / 100 * count) / count for share in (50, 80, 60, 80, 70)])


@pytest.mark.spec("T11")
def test_without_patience_every_epoch_is_trained(data: FoldData, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [90, 10, 10, 10])
    assert len(train(config_with(), data).epochs) == 4


@pytest.mark.spec("T11")
def test_accuracy_and_score_choose_different_epochs(data: FoldData) -> None:
    labels = np.array([0] * 8 + [1] * 2)
    often = evaluate(np.eye(2)[np.zeros(10, int)], labels)
    fair = evaluate(np.eye(2)[np.array([0] * 4 + [1] * 6)], labels)
    assert often.value("accuracy") == 80 > fair.value("accuracy") == 60
    assert often.value("icbhi4") == 50 < fair.value("icbhi4") == 75
    assert often.value("icbhi2") == often.icbhi2.score


@pytest.mark.spec("T13")
def test_a_killed_run_resumes_to_the_same_curve_mixing_included(
    data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    config = config_with(objective={"plain_epochs": 1})
    whole = train(config, data)
    folder, steps = CheckpointFolder(tmp_path), iter(range(1000))
    with pytest.raises(Stopped):
        train(config, data, checkpoint=folder, should_stop=lambda: next(steps) >= 7)
    resumed = train(config, data, checkpoint=folder)
    assert curve(resumed) == curve(whole) and same(resumed, whole)


# --- what is fed ---


def test_a_batch_holds_the_maps_and_scalars_of_its_clips(data: FoldData) -> None:
    rows = Rows(data, "test", torch.device("cpu"))
    x, y = rows.take(torch.tensor([2, 0]))
    assert isinstance(x, WithScalars) and x.values.shape == (2, 9, 63, 128) and data.scalars is not None
    for position, values, scalars, label in zip((2, 0), *x, y, strict=True):
        row = data.test[position]
        assert torch.equal(values, torch.from_numpy(np.array(data.values[row])))
        assert torch.equal(scalars, torch.from_numpy(np.array(data.scalars[row]))) and label == data.labels[row]


def test_scalars_are_standardised_by_the_training_side_alone(data: FoldData) -> None:
    run = _Run(config_with(), data, 0, torch.device("cpu"), None, 0.0)
    assert data.scalars is not None
    own = data.scalars[data.train].astype(np.float64)
    state = run.model.state_dict()
    np.testing.assert_allclose(state["scalar_mean"].numpy(), own.mean(axis=0), rtol=1e-5, atol=1e-7)
    moved = own.std(axis=0) > 0
    np.testing.assert_allclose(state["scalar_std"].numpy()[moved], own.std(axis=0)[moved], rtol=1e-4)
    assert not np.allclose(own.mean(axis=0), data.scalars.astype(np.float64).mean(axis=0), rtol=1e-5)


# --- numbers ---


@pytest.mark.spec("E4")
@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_f1_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    metrics = evaluate(np.eye(2)[said], labels)
    wanted = sk.precision_recall_fscore_support(labels, said, labels=[0, 1])
    assert metrics.precision == pytest.approx(100 * wanted[0])
    assert metrics.recall == pytest.approx(100 * wanted[1])
    assert metrics.f1 == pytest.approx(100 * wanted[2])
    assert metrics.accuracy == pytest.approx(100 * sk.accuracy_score(labels, said))


@pytest.mark.spec("E4")
def test_a_class_that_is_never_called_has_no_precision() -> None:
    metrics = evaluate(np.eye(3)[[0, 0]], np.array([0, 1]))
    assert metrics.precision == [50.0, None, None] and metrics.f1 == [pytest.approx(200 / 3), 0.0, None]
