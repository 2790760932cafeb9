"""One fold run: protocols, resume, determinism, and what flows back from the test side (nothing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workers.training as training
from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from search_spaces.overrides import merge
from tests.conftest import TINY_FEATURE
from workers.checkpoint import CheckpointFolder
from workers.config import ExperimentConfig
from workers.data import FoldData, load_fold
from workers.evaluation import evaluate
from workers.training import Diverged, Stopped, Trained, train_fold

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "ast", "size": "tiny", "depth": 1, "patch": 8, "stride": 8},
    "objective": {"name": "patchmix_cl"},
    "augment": {"policy": "icbhi_sup"},
    "optim": {"lr": 1e-3},
    "training": {"epochs": 3, "batch_size": 16},
}


def config_with(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(merge(BASE, changes))


@pytest.fixture(scope="module")
def data(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    return load_fold(store, config_with(), split, 0, 0, tmp_path_factory.mktemp("cache"))


def train(config: ExperimentConfig, data: FoldData, seed: int = 0, **options: Any) -> Trained:
    torch.set_num_threads(1)
    return train_fold(config, data, seed=seed, **{"on_test_read": lambda **_: None, **options})


def same(one: Trained, other: Trained, protocols: tuple[str, ...] = ("last", "validation")) -> bool:
    return all(
        one.protocols[name].epoch == other.protocols[name].epoch
        and np.array_equal(one.protocols[name].test, other.protocols[name].test)
        for name in protocols
    ) and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def curve(trained: Trained) -> list[tuple[float, float]]:
    return [(record["train_loss"], record["validation"]["score"]) for record in trained.epochs]


def test_sides_are_disjoint_by_patient_and_cover_the_fold(data: FoldData, small_home: Path) -> None:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    sides = {name: set(data.cycle_ids[getattr(data, name)]) for name in ("train", "validation", "test")}
    assert sides["train"] | sides["validation"] == set(split.side(0, "train"))
    assert sides["test"] == set(split.side(0, "test"))
    assert not sides["train"] & sides["validation"]
    patients = {name: set(data.patients[getattr(data, name)]) for name in ("train", "validation", "test")}
    assert not patients["train"] & patients["validation"] and not patients["train"] & patients["test"]
    assert data.summary.train_class_counts == np.bincount(data.labels[data.train], minlength=4).tolist()


@pytest.mark.spec("T9")
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(data: FoldData) -> None:
    config = config_with()
    first, again, other = train(config, data), train(config, data), train(config, data, seed=1)
    assert same(first, again) and curve(first) == curve(again)
    assert curve(first) != curve(other)


@pytest.mark.spec("T13")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "model": {"name": "crnn", "hidden": 8},
            "objective": {"name": "ce"},
            "feature": {**TINY_FEATURE, "n_mels": 128},
        },
        {"training": {"average": {"name": "ema", "beta": 0.9}}},
        {"training": {"average": {"name": "live_blend", "beta": 0.5}}, "optim": {"schedule": "one_cycle"}},
        {
            "training": {"sampler": "weighted", "concat_scale": 0.8, "min_sensitivity": 5.0},
            "augment": {"policy": "LD"},
            "optim": {"name": "sgd", "schedule": "step", "decay_epochs": [1]},
        },
    ],
    ids=["ast patchmix_cl", "crnn with dropout", "ema", "live blend", "weighted, joined, warped"],
)
def test_a_killed_run_resumes_to_the_same_curve(
    changes: dict[str, Any], data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "feature" in changes:
        bins = changes["feature"]["n_mels"]
        rng = np.random.default_rng(0)
        values = rng.standard_normal((len(data.labels), data.values.shape[1], bins)).astype(np.float32)
        data = FoldData(**{**vars(data), "values": values})
    config = config_with(**changes)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    whole = train(config, data)

    class Killed(Exception):
        pass

    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:  # after epoch 2 is trained and before its state is saved
            raise Killed

    folder = CheckpointFolder(tmp_path / "state")
    with pytest.raises(Killed):
        train(config, data, checkpoint=folder, on_epoch=kill)
    torch.manual_seed(999)
    epochs_run: list[int] = []
    resumed = train(config, data, checkpoint=folder, on_epoch=lambda record: epochs_run.append(record["epoch"]))
    assert epochs_run == [2, 3]
    assert same(whole, resumed) and curve(whole) == curve(resumed)


def test_a_torn_checkpoint_starts_the_run_over(data: FoldData, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 torn")
    assert same(train(config_with(), data, checkpoint=folder), train(config_with(), data))


@pytest.mark.spec("T12")
def test_the_validation_protocol_keeps_the_best_held_out_epoch(data: FoldData) -> None:
    trained = train(config_with(training={"epochs": 4, "protocol": "validation"}), data)
    scores = [record["validation"]["score"] for record in trained.epochs]
    chosen = trained.protocols["validation"]
    assert chosen.epoch == 1 + int(np.argmax(scores)) and chosen.guarded
    assert chosen.validation is not None
    assert evaluate(chosen.validation, data.labels[data.validation]).icbhi4.score == pytest.approx(max(scores))


@pytest.mark.spec("A3")
@pytest.mark.parametrize("policy", ["icbhi_ast_sup", "LB"])
def test_features_are_never_written_to(data: FoldData, policy: str) -> None:
    before = data.values.copy()
    train(config_with(training={"epochs": 1}, augment={"policy": policy}), data)
    assert np.array_equal(before, data.values)


def test_it_learns_what_can_be_learned(data: FoldData) -> None:
    """A feature that spells the class out is learned; the same with shuffled labels is not."""
    values = np.zeros_like(data.values)
    for label in range(4):
        values[data.labels == label, :, label * 8 : label * 8 + 8] = 1.0
    told = FoldData(**{**vars(data), "values": values})
    config = config_with(
        model={"name": "crnn", "hidden": 16},
        objective={"name": "ce"},
        augment={"policy": "none"},
        training={"epochs": 25, "batch_size": 8},
        optim={"lr": 1e-3, "schedule": "constant"},
    )
    trained = train(config, told)
    assert evaluate(trained.protocols["last"].test, told.labels[told.test]).icbhi4.score > 95


def test_a_loss_that_is_no_number_is_told_as_such(data: FoldData) -> None:
    values = data.values.copy()
    values[data.train[0]] = np.nan
    with pytest.raises(Diverged, match="epoch 1"):
        train(config_with(training={"drop_last": False}), FoldData(**{**vars(data), "values": values}))


def test_a_run_stops_when_asked(data: FoldData) -> None:
    with pytest.raises(Stopped):
        train(config_with(), data, should_stop=lambda: True)


def test_folds_and_tasks_that_do_not_exist(small_home: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    with pytest.raises(UserError, match="no fold 7"):
        load_fold(store, config_with(), split, 7, 0, tmp_path)
    with pytest.raises(UserError, match=r"no task 'lungsound5'.*lungsound4"):
        load_fold(store, config_with(task="lungsound5"), split, 0, 0, tmp_path)
    with pytest.raises(UserError, match="features build"):
        load_fold(store, config_with(feature={**TINY_FEATURE, "n_mels": 40}), split, 0, 0, tmp_path)
