"""The test side: read once at the end, only after a note of it; watching it changes no weight and no honest row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

import workers.training as training
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from tests.conftest import TINY_FEATURE
from tests.workers.test_training import config_with, train
from workers.audit_log import AuditLog
from workers.checkpoint import CheckpointFolder
from workers.config import ExperimentConfig
from workers.data import FoldData, load_fold
from workers.evaluation import evaluate
from workers.fold import FoldRun, Site, run_fold
from workers.results import PREDICTIONS, WEIGHTS, ResultStore
from workers.training import Trained, train_fold

pytestmark = pytest.mark.slow

DROPOUT: dict[str, Any] = {
    "model": {"name": "crnn", "hidden": 8},
    "objective": {"name": "ce"},
    "feature": {**TINY_FEATURE, "n_mels": 128},
}
TRAININGS: dict[str, dict[str, Any]] = {
    "patches mixed, masked": {},
    "dropout, batch norm": {**DROPOUT, "augment": {"policy": "LD"}},
    "ema": {**DROPOUT, "training": {"average": {"name": "ema", "beta": 0.9}}},
    "live blend, weighted, joined": {
        "training": {"average": {"name": "live_blend", "beta": 0.5}, "sampler": "weighted", "concat_scale": 0.8}
    },
    "stored copies drawn": {**DROPOUT, "copies": 2},
}


@pytest.fixture(scope="module")
def data(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    return load_fold(store, config_with(), split, 0, 0, tmp_path_factory.mktemp("cache"))


def case(name: str, data: FoldData) -> tuple[dict[str, Any], FoldData]:
    """Changes of the config and the fold's data for one of `TRAININGS`; drawn where the feature is another one."""
    changes = dict(TRAININGS[name])
    copies = changes.pop("copies", 0)
    if "feature" in changes:
        versions = (1 + copies,) if copies else ()
        shape = (len(data.labels), *versions, data.values.shape[1], changes["feature"]["n_mels"])
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        data = FoldData(**{**vars(data), "values": values})
    return changes, data


def both(changes: dict[str, Any]) -> tuple[ExperimentConfig, ExperimentConfig]:
    """The config, and the same with the test side watched."""
    rest = {key: value for key, value in changes.items() if key != "training"}
    inner = changes.get("training", {})
    return config_with(**rest, training=inner), config_with(**rest, training={**inner, "watch_test": True})


def honest(trained: Trained) -> list[dict[str, Any]]:
    """The epochs' records without what is only told when watched, and without clock times."""
    return [{k: v for k, v in record.items() if k not in {"test", "seconds"}} for record in trained.epochs]


@pytest.mark.spec("T12")
@pytest.mark.parametrize("protocol", ["last", "validation"])
@pytest.mark.parametrize("name", TRAININGS)
def test_weights_predictions_and_draws_are_bit_equal_with_and_without_watching(
    name: str, protocol: str, data: FoldData
) -> None:
    changes, data = case(name, data)
    changes["training"] = {**changes.get("training", {}), "protocol": protocol}
    runs, states = [], []
    for config in both(changes):
        runs.append(train(config, data))
        states.append(torch.get_rng_state())
    blind, watched = runs
    assert torch.equal(*states), "watching draws no random number"
    assert honest(blind) == honest(watched)
    assert set(watched.protocols) - set(blind.protocols) == {"test_best"}
    for which, said in blind.protocols.items():
        other = watched.protocols[which]
        assert (said.epoch, said.guarded) == (other.epoch, other.guarded)
        assert np.array_equal(said.test, other.test) and np.array_equal(said.validation, other.validation)
    assert set(blind.weights) == set(watched.weights)
    assert all(torch.equal(value, watched.weights[key]) for key, value in blind.weights.items())


@pytest.mark.spec("T12")
def test_test_best_is_the_best_of_the_epochs_that_were_watched(data: FoldData) -> None:
    watched = train(config_with(training={"watch_test": True}), data)
    scores = [record["test"]["score"] for record in watched.epochs]
    best = watched.protocols["test_best"]
    assert best.epoch == 1 + int(np.argmax(scores)) and best.validation is None
    assert evaluate(best.test, data.labels[data.test]).icbhi4.score == pytest.approx(max(scores))


@pytest.mark.spec("T12")
@pytest.mark.parametrize("watch", [False, True])
def test_a_training_needs_nothing_of_its_test_side_until_the_reading_is_noted(watch: bool, data: FoldData) -> None:
    """Until the first note is written, the test side's sounds are no numbers and its labels are wrong."""
    config = config_with(training={"watch_test": watch})
    whole = train(config, data)
    values, labels = data.values.copy(), data.labels.copy()
    values[data.test] = np.nan
    labels[data.test] = (labels[data.test] + 1) % 4
    hidden = FoldData(**{**vars(data), "values": values, "labels": labels})
    notes = []

    def note(**facts: Any) -> None:
        notes.append(facts)
        values[data.test], labels[data.test] = data.values[data.test], data.labels[data.test]

    trained = train(config, hidden, on_test_read=note)
    each = [{"epoch": epoch, "why": "watched"} for epoch in (1, 2, 3)]
    assert notes == [*(each if watch else []), {"epoch": 3, "why": "end"}]
    assert honest(trained) == honest(whole)
    assert [record.get("test") for record in trained.epochs] == [record.get("test") for record in whole.epochs]
    for name, said in whole.protocols.items():
        assert np.array_equal(said.test, trained.protocols[name].test)


@pytest.mark.spec("T12")
@pytest.mark.parametrize("watch", [False, True])
def test_a_reading_that_cannot_be_noted_does_not_happen(watch: bool, data: FoldData) -> None:
    epochs: list[int] = []

    def broken(**_: Any) -> None:
        raise OSError("the log is full")

    config = config_with(training={"watch_test": watch})
    with pytest.raises(OSError, match="the log is full"):
        train(config, data, on_test_read=broken, on_epoch=lambda record: epochs.append(record["epoch"]))
    assert epochs == ([] if watch else [1, 2, 3])
    with pytest.raises(RuntimeError, match="nobody to write"):
        train(config, data, on_test_read=None)
    with pytest.raises(TypeError, match="on_test_read"):
        train_fold(config, data, seed=0)  # type: ignore[call-arg]


@pytest.mark.spec("T12")
def test_readings_of_a_resumed_training_are_counted_on(
    data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    notes: list[tuple[int, str]] = []

    def note(epoch: int, why: str) -> None:
        notes.append((epoch, why))

    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    folder, config = CheckpointFolder(tmp_path), config_with(training={"watch_test": True})
    with pytest.raises(KeyboardInterrupt):
        train(config, data, checkpoint=folder, on_epoch=kill, on_test_read=note)
    resumed = train(config, data, checkpoint=folder, on_test_read=note)
    assert notes == [(1, "watched"), (2, "watched"), (2, "watched"), (3, "watched"), (3, "end")]
    assert resumed.test_reads == 4, "of the training as it counts; the log also has the epoch that was lost"


@pytest.mark.spec("T12")
def test_the_log_has_one_reading_a_training_after_its_last_epoch_and_honest_rows_stay(settings: Settings) -> None:
    content = {
        "feature": TINY_FEATURE,
        "model": {"name": "crnn", "hidden": 4, "layers": 1},
        "objective": {"name": "ce"},
        "training": {"epochs": 3, "batch_size": 32},
    }
    config = ExperimentConfig.parse(content)
    watched_config = config.model_copy(update={"training": config.training.model_copy(update={"watch_test": True})})
    site, log, store = Site.of(settings), AuditLog.open(settings.results), ResultStore.open(settings.results)
    blind = run_fold(FoldRun(config, "official", 0, 0), site)
    watched = run_fold(FoldRun(watched_config, "official", 0, 0), site)

    def reads(run: str) -> list[dict[str, Any]]:
        return [entry.facts for entry in log.of(run) if entry.event == "test_read"]

    assert [entry.event for entry in log.of(blind.hash)] == ["begun", "test_read", "trained", "published"]
    assert reads(blind.hash) == [{"epoch": 3, "why": "end"}]
    each = [{"epoch": epoch, "why": "watched"} for epoch in (1, 2, 3)]
    assert reads(watched.hash) == [*each, {"epoch": 3, "why": "end"}]
    assert (blind.test_reads, watched.test_reads) == (1, 4)

    assert set(blind.protocols) == {"last", "validation"}
    assert all(watched.protocols[name] == said for name, said in blind.protocols.items())
    one, other = (load(store.read(result.hash, WEIGHTS)) for result in (blind, watched))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    rows = predictions(store, watched.hash)
    assert rows.filter(pc.not_equal(rows["protocol"], "test_best")).equals(predictions(store, blind.hash))


def predictions(store: ResultStore, result: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.read(result, PREDICTIONS)))
