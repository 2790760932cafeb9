"""CycleGuardian trained, scaled down: from the store to a published result (docs/specification.md, D10, E3, O2, T8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from timm.utils import ModelEmaV3
from torch import nn

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.features import resolve_feature
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from search_spaces.overrides import merge
from search_spaces.presets import load_preset
from workers.averaging import Ema
from workers.config import ExperimentConfig
from workers.data import FoldData, load_fold
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel, write_model
from workers.models import build_model
from workers.training import Trained, train_fold

pytestmark = pytest.mark.slow

FEATURE: dict[str, Any] = {
    "kind": "hybrid", "seconds": 1.0, "bins": 16, "bins_per_octave": 6, "low_hz": 100.0, "hop": 400, "copies": 1,
    "copy_of": "cycle",
}  # fmt: skip


def config_with(**changes: Any) -> ExperimentConfig:
    small = {"feature": FEATURE, "training": {"epochs": 2, "batch_size": 16}}
    return ExperimentConfig.parse(merge(merge(load_preset("cycleguardian"), small), changes))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, synthetic_corpus: Path) -> FeatureStore:
    store = FeatureStore.open(str(tmp_path_factory.mktemp("cycleguardian")), create=True)
    build(open_corpus("icbhi", synthetic_corpus), resolve_feature(FEATURE), store, workers=0)
    return store


def load(store: FeatureStore, config: ExperimentConfig, cache: Path) -> FoldData:
    return load_fold(store, config, store.split("icbhi", "official", task=config.task), 0, 0, cache)


def train(config: ExperimentConfig, data: FoldData, seed: int = 0) -> Trained:
    torch.set_num_threads(1)
    return train_fold(config, data, seed=seed, on_test_read=lambda **_: None)


@pytest.mark.spec("O2")
def test_an_epoch_tells_its_four_losses_its_rate_its_score_and_its_clusters(
    store: FeatureStore, tmp_path: Path
) -> None:
    config = config_with()
    trained = train(config, load(store, config, tmp_path))
    assert len(trained.epochs) == 2
    for record in trained.epochs:
        assert {"ce", "cluster", "contrastive", "similarity", "clusters_in_use"} == set(record["parts"])
        assert 1 <= record["parts"]["clusters_in_use"] <= 4
        assert record["lr"] == pytest.approx(1e-3)
        assert {"specificity", "sensitivity", "score"} <= set(record["validation"])


def test_a_collapse_is_noted_in_the_epochs_record(store: FeatureStore, tmp_path: Path) -> None:
    config = config_with(model={"codes": "raw"}, optim={"lr": 1e-9}, training={"epochs": 1})
    [record] = train(config, load(store, config, tmp_path)).epochs
    assert record["parts"]["clusters_in_use"] == pytest.approx(1, abs=0.05)
    assert "collapsed" in record["notes"][0]


@pytest.mark.spec("M12")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_standardised_codes_use_more_clusters_than_raw_ones_in_every_epoch(
    reduction: str, store: FeatureStore, tmp_path: Path
) -> None:
    used = {}
    for codes in ("raw", "standardized"):
        config = config_with(model={"codes": codes}, objective={"cluster_reduction": reduction})
        trained = train(config, load(store, config, tmp_path))
        used[codes] = [record["parts"]["clusters_in_use"] for record in trained.epochs]
    assert used["raw"][0] < 2 and min(used["standardized"]) > 2.5, used
    assert all(more > fewer for more, fewer in zip(used["standardized"], used["raw"], strict=True))


def test_equal_seeds_train_equal_networks(store: FeatureStore, tmp_path: Path) -> None:
    config = config_with(training={"epochs": 1})
    data = load(store, config, tmp_path)
    first, again, other = train(config, data), train(config, data), train(config, data, seed=1)
    assert np.array_equal(first.protocols["last"].test, again.protocols["last"].test)
    assert not np.array_equal(first.protocols["last"].test, other.protocols["last"].test)


@pytest.mark.spec("T8")
def test_the_shadow_is_timms_ema_of_decay_one_tenth() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    reference, ours = ModelEmaV3(network, decay=0.1), Ema(network, 0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(4):
        network(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        ours.after_step()
        reference.update(network)
    with ours.evaluated_weights():
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, reference.module.state_dict()[name], msg=name)


@pytest.mark.spec("T8")
def test_the_weights_that_are_kept_are_those_that_were_evaluated(store: FeatureStore, tmp_path: Path) -> None:
    """The source evaluates its EMA and saves the raw weights. A strong average makes the two differ."""
    config = config_with(training={"average": {"name": "ema", "beta": 0.9}})
    data = load(store, config, tmp_path)
    trained = train(config, data)
    model = build_model(config.model, config.feature.shape, 4)
    model.load_state_dict(trained.weights)
    values = torch.from_numpy(data.originals[data.test].copy())
    with torch.inference_mode():
        logits = model.eval()(values).numpy()
    np.testing.assert_allclose(logits, trained.protocols["last"].test, atol=1e-4)
    raw = train(config_with(training={"average": {"name": "none"}}), data)
    assert not np.allclose(raw.protocols["last"].test, trained.protocols["last"].test, atol=1e-3)


@pytest.mark.spec("E3")
def test_two_classes_are_trained_and_evaluated_alike(store: FeatureStore, tmp_path: Path) -> None:
    """The source's two-class script stops at its first evaluation, whose labels still count to four."""
    config = config_with(task="lungsound2", training={"epochs": 1})
    data = load(store, config, tmp_path)
    assert train(config, data).protocols["last"].test.shape == (len(data.test), 2)
    assert set(data.labels[data.test]) == {0, 1}


@pytest.mark.spec("D10")
def test_a_result_of_the_leaking_split_carries_its_switch(store: FeatureStore, tmp_path: Path) -> None:
    site = Site(store.uri, str(tmp_path / "results"), str(tmp_path / "cache"), str(tmp_path / "weights"))
    torch.set_num_threads(1)
    config = config_with(training={"epochs": 1})
    names = ("compat-official-patient-expanded", "official-patient-test")
    leaking, clean = (run_fold(FoldRun(config, name, fold=0, seed=0), site) for name in names)
    assert leaking.compat == ["split"] and clean.compat == []


def test_a_trained_network_hears_the_last_seconds_of_a_cycle_of_a_raw_recording(
    store: FeatureStore, synthetic_corpus: Path, tmp_path: Path
) -> None:
    config = config_with()
    torch.manual_seed(0)
    model = build_model(config.model, config.feature.shape, 4).eval()
    classes = ["normal", "crackle", "wheeze", "both"]
    write_model(tmp_path / "model", config, classes, save(model.state_dict()))
    recording = open_corpus("icbhi", synthetic_corpus).recordings[0]
    assert recording.audio is not None
    sound_model = SoundModel(tmp_path / "model", device="cpu")
    start, end = recording.cycles[0].start, recording.cycles[0].end
    [of_cycle] = sound_model.predict(recording.audio, [(start, end)]).cycles
    features = store.load("icbhi", config.feature.feature_id, tmp_path / "cache")
    values = features.values[features.cycle_ids.index(recording.cycles[0].cycle_id), :1].copy()
    with torch.inference_mode():
        expected = model(torch.from_numpy(values)).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(of_cycle.probabilities, expected, atol=1e-5)
    [longer] = sound_model.predict(recording.audio, [(0.0, 3.0)]).cycles
    [last] = sound_model.predict(recording.audio, [(2.0, 3.0)]).cycles
    np.testing.assert_allclose(longer.probabilities, last.probabilities, atol=1e-5)
    assert longer.note == "only its last 1 s are used"


def test_the_feature_is_stored_with_its_three_maps_and_its_copy(store: FeatureStore, tmp_path: Path) -> None:
    config = config_with()
    data = load(store, config, tmp_path)
    assert data.values.shape[1:] == (2, 3, 56, 16) and data.channels == 3 and data.versioned
    assert verify_feature(store, "icbhi", config.feature.feature_id) == []
