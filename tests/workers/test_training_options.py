"""Switches of the training loop: samplers, stored copies, choosing an epoch, devices, determinism, compilation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workers.device as device_module
from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.splits import SplitTable
from feature_store.store import FeatureStore
from tests.workers.test_training import config_with, curve, same, train
from workers.augment.concatenate import BOTH, CRACKLE, NORMAL, RECIPES, WHEEZE, join_frames, plan_pairs
from workers.config import ExperimentConfig
from workers.config.training import TrainingConfig
from workers.data import FoldData, load_fold
from workers.device import Rows
from workers.evaluation import evaluate
from workers.sampling import Sampling
from workers.training import _Run


@pytest.fixture(scope="module")
def data(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    return load_fold(store, config_with(), split, 0, 0, tmp_path_factory.mktemp("cache"))


def with_values(data: FoldData, **changes: Any) -> FoldData:
    return FoldData(**{**vars(data), **changes})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- sampling ---


@pytest.mark.spec("A15")
def test_the_weighted_sampler_draws_every_class_alike(data: FoldData) -> None:
    sampling = Sampling(TrainingConfig(sampler="weighted", batch_size=8), data, generator())
    rng = generator(1)
    drawn = torch.cat([torch.cat(sampling.epoch(rng)) for _ in range(60)])
    labels = data.labels[data.train][drawn.numpy()]
    shares = np.bincount(labels, minlength=4) / len(labels)
    sigma = (0.25 * 0.75 / len(labels)) ** 0.5
    assert np.abs(shares - 0.25).max() < 3 * sigma
    own = np.bincount(data.labels[data.train], minlength=4) / len(data.train)
    assert np.abs(own - 0.25).max() > 10 * sigma, "the training side itself is not balanced"


def test_shuffling_takes_every_cycle_once_and_drops_the_small_rest(data: FoldData) -> None:
    count = len(data.train)
    whole = Sampling(TrainingConfig(batch_size=7, drop_last=False), data, generator())
    assert sorted(torch.cat(whole.epoch(generator())).tolist()) == list(range(count)) and whole.steps == -(-count // 7)
    cut = Sampling(TrainingConfig(batch_size=7), data, generator())
    assert {len(batch) for batch in cut.epoch(generator())} == {7} and cut.steps == count // 7
    assert Sampling(TrainingConfig(batch_size=count + 5), data, generator()).steps == 1


@pytest.mark.spec("A7")
def test_classes_grow_to_the_wanted_size_by_the_published_kinds_of_pairs() -> None:
    labels = np.repeat([NORMAL, CRACKLE, WHEEZE, BOTH], [4000, 900, 300, 100])
    joined = plan_pairs(labels, 1.0, generator())
    classes = np.bincount(np.concatenate([labels, joined.labels.numpy()]), minlength=4)
    assert classes.tolist() == [4000] * 4
    kinds = labels[joined.pairs.numpy()]
    for target, recipe in RECIPES.items():
        mine = kinds[joined.labels.numpy() == target]
        for share, kind in recipe:
            found = float((mine == kind).all(axis=1).mean())
            assert abs(found - share) < 3 * (share * (1 - share) / len(mine)) ** 0.5
    half = plan_pairs(labels, 0.2, generator())
    assert np.bincount(half.labels.numpy(), minlength=4).tolist() == [0, 0, 500, 700], "a larger class stays as it is"


@pytest.mark.spec("A7")
def test_a_kind_of_pair_without_cycles_is_left_out() -> None:
    joined = plan_pairs(np.repeat([NORMAL, CRACKLE, WHEEZE], [50, 5, 5]), 1.0, generator())
    assert np.bincount(joined.labels.numpy(), minlength=4).tolist() == [0, 45, 45, 50]
    assert len(plan_pairs(np.repeat([NORMAL], [50]), 1.0, generator()).pairs) == 0


@pytest.mark.spec("A7")
def test_joined_frames_are_those_of_the_two_cycles_repeated() -> None:
    first, second = torch.arange(10.0).view(1, 10, 1), 100 + torch.arange(10.0).view(1, 10, 1)
    out = join_frames(first, second, torch.tensor([3]), torch.tensor([2]))
    assert out.flatten().tolist() == [0, 1, 2, 100, 101, 0, 1, 2, 100, 101]


@pytest.mark.slow
@pytest.mark.spec("A7")
def test_pairs_reach_the_batches_and_only_from_the_training_side(data: FoldData) -> None:
    config = TrainingConfig(concat_scale=1.0)
    sampling = Sampling(config, data, generator())
    assert sampling.joined is not None and sampling.class_counts.tolist() == [sampling.class_counts[0]] * 4
    rows = Rows(data, "train", torch.device("cpu"), sampling.joined)
    count = len(data.train)
    assert len(rows.labels) == count + len(sampling.joined.pairs)
    positions = torch.tensor([0, count, count + 1])
    x, y = rows.take(positions, generator())
    assert torch.equal(x[0, 0], torch.from_numpy(data.values[data.train[0]].astype(np.float32)))
    for item in (1, 2):
        a, b = (data.train[p] for p in sampling.joined.pairs[item - 1].tolist())
        n, m = data.own_frames[a], data.own_frames[b]
        parts = np.concatenate([data.values[a][:n], data.values[b][:m]])
        expected = np.tile(parts, (-(-x.shape[2] // len(parts)), 1))[: x.shape[2]]
        assert np.array_equal(x[item, 0].numpy(), expected.astype(np.float32))
    assert y.tolist() == [data.labels[data.train[0]], *sampling.joined.labels[:2].tolist()]
    trained = train(config_with(training={"concat_scale": 1.0, "epochs": 1}), data)
    assert trained.protocols["last"].test.shape == (len(data.test), 4)


def test_own_frames_are_the_part_before_the_padding(data: FoldData) -> None:
    frames = data.values.shape[-2]
    assert data.own_frames.min() >= 1 and data.own_frames.max() <= frames and len(set(data.own_frames.tolist())) > 3


@pytest.mark.spec("A6")
def test_a_stored_version_is_drawn_uniformly_in_training_and_never_in_evaluation(data: FoldData) -> None:
    versions = np.stack([data.values + offset for offset in (0.0, 100.0, 200.0)], axis=1).astype(np.float32)
    rows = Rows(with_values(data, values=versions), "train", torch.device("cpu"))
    rng = generator()
    positions = torch.zeros(9000, dtype=torch.long)
    drawn = (rows.take(positions, rng)[0].mean(dim=(1, 2, 3)) / 100).round().long()
    counts = torch.bincount(drawn - drawn.min(), minlength=3).double() / len(positions)
    assert float((counts - 1 / 3).abs().max()) < 3 * (2 / 9 / 9000) ** 0.5
    itself, _ = rows.take(torch.arange(5))
    assert torch.equal(itself[:, 0], torch.from_numpy(versions[data.train[:5], 0]))


# --- choosing an epoch ---


@pytest.mark.slow
@pytest.mark.spec("T11")
def test_a_guard_that_is_never_met_keeps_the_last_epoch_and_says_so(data: FoldData) -> None:
    trained = train(config_with(training={"min_sensitivity": 99.9, "watch_test": True}), data)
    assert {name: (said.epoch, said.guarded) for name, said in trained.protocols.items()} == {
        "last": (3, True), "validation": (3, False), "test_best": (3, False)
    }  # fmt: skip
    assert np.array_equal(trained.protocols["validation"].test, trained.protocols["last"].test)


@pytest.mark.slow
@pytest.mark.spec("T11")
def test_an_epoch_below_the_guard_is_not_chosen(data: FoldData) -> None:
    learns = {"objective": {"name": "ce", "class_weights": "inverse"}, "optim": {"schedule": "constant"}}
    free = train(config_with(training={"epochs": 6}, **learns), data)
    records = [record["validation"] for record in free.epochs]
    guard = sorted(record["sensitivity"] for record in records)[-2]
    assert guard > 0
    guarded = train(config_with(training={"epochs": 6, "min_sensitivity": guard}, **learns), data)
    allowed = [r["score"] if r["sensitivity"] > guard else -1 for r in records]
    if max(allowed) < 0:
        assert not guarded.protocols["validation"].guarded
    else:
        assert guarded.protocols["validation"].epoch == 1 + int(np.argmax(allowed))


@pytest.mark.slow
@pytest.mark.spec("E2")
def test_epochs_can_be_chosen_by_the_two_class_score(data: FoldData) -> None:
    learns = {"objective": {"name": "ce", "class_weights": "inverse"}, "optim": {"schedule": "constant"}}
    exact = train(config_with(**learns), data)
    either = train(config_with(**learns, training={"metric": "icbhi2"}), data)
    pairs = [(one["validation"], other["validation"]) for one, other in zip(exact.epochs, either.epochs, strict=True)]
    assert all(one["specificity"] == other["specificity"] for one, other in pairs), "Sp is the same by definition"
    assert any(one["sensitivity"] < other["sensitivity"] for one, other in pairs), "some abnormal cycle is mistaken"
    chosen = either.protocols["validation"]
    assert chosen.validation is not None
    told = evaluate(chosen.validation, data.labels[data.validation]).icbhi2.score
    assert told == pytest.approx(max(other["score"] for _, other in pairs))


@pytest.mark.slow
def test_an_epoch_is_chosen_by_the_task_s_own_metric_unless_one_is_named(data: FoldData) -> None:
    learns = {"objective": {"name": "ce", "class_weights": "inverse"}, "optim": {"schedule": "constant"}}
    voices = replace(data, summary=data.summary.model_copy(update={"metric": "uar"}))
    own = train(config_with(training={"epochs": 6}, **learns), voices)
    recalls, scores = ([record["validation"][name] for record in own.epochs] for name in ("uar", "score"))
    assert own.protocols["validation"].epoch == 1 + int(np.argmax(recalls)) != 1 + int(np.argmax(scores))
    named = train(config_with(training={"epochs": 6, "metric": "icbhi4"}, **learns), voices)
    assert named.protocols["validation"].epoch == 1 + int(np.argmax(scores))


# --- data ---


@pytest.mark.spec("D13")
def test_devices_filter_both_sides_or_say_which_is_empty(small_home: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(Settings.load(small_home).store)
    split = store.split("icbhi", "official", task="lungsound4")
    everything = load_fold(store, config_with(), split, 0, 0, tmp_path)
    sides = {side: set(everything.devices[getattr(everything, side)]) for side in ("train", "validation", "test")}
    common = sorted((sides["train"] | sides["validation"]) & sides["test"])
    few = load_fold(store, config_with(devices=[common[0]]), split, 0, 0, tmp_path)
    assert set(few.devices[np.concatenate([few.train, few.validation, few.test])]) == {common[0]}
    assert len(few.test) == int((everything.devices[everything.test] == common[0]).sum())
    with pytest.raises(UserError, match="Stethoscope9000"):
        load_fold(store, config_with(devices=["Stethoscope9000"]), split, 0, 0, tmp_path)
    device_of = dict(zip(everything.cycle_ids.tolist(), everything.devices.tolist(), strict=True))
    tested = [cycle_id for cycle_id in split.side(0, "test") if device_of[cycle_id] != common[0]]
    without = SplitTable.of_sides("official", {0: {"train": split.side(0, "train"), "test": tested}})
    with pytest.raises(UserError, match=f"test side has no cycle recorded with {common[0]}"):
        load_fold(store, config_with(devices=[common[0]]), without, 0, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.spec("F5")
def test_statistics_are_those_of_the_training_side_and_stay_with_the_weights(data: FoldData) -> None:
    values = data.values[data.train].astype(np.float64)
    trained = train(config_with(model={"standardize": "train"}, training={"epochs": 1}), data)
    kept = {round(float(value), 4) for value in trained.weights.values() if value.numel() == 1}
    assert {round(float(values.mean()), 4), round(float(values.std()), 4)} <= kept


# --- how a step is run ---


@pytest.mark.slow
@pytest.mark.spec("T9")
def test_deterministic_mode_gives_the_same_bits_and_ends_with_the_run(data: FoldData) -> None:
    config = config_with(training={"deterministic": True, "epochs": 1})
    within: list[bool] = []
    one = train(config, data, on_epoch=lambda record: within.append(torch.are_deterministic_algorithms_enabled()))
    two = train(config, data)
    assert same(one, two) and curve(one) == curve(two)
    assert within == [True] and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ce", "patchmix_cl"])
def test_a_compiled_step_gives_the_numbers_of_the_plain_one(
    data: FoldData, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """Traced and differentiated ahead of time, as on a GPU, but without a C++ compiler."""
    graphs: list[Any] = []

    def counting(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(device_module, "COMPILER", counting)
    small = {"objective": {"name": objective}, "training": {"epochs": 2}}
    plain = train(config_with(**small), data)
    assert not graphs
    quick = train(config_with(**{**small, "training": {"epochs": 2, "compile": True}}), data)
    assert graphs, "the step was compiled"
    assert np.allclose(plain.protocols["last"].test, quick.protocols["last"].test, atol=1e-4)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.spec("T6")
def test_bfloat16_trains_to_finite_numbers_close_to_full_precision(data: FoldData) -> None:
    half = train(config_with(training={"precision": "bf16"}, optim={"clip_norm": 1.0}), data)
    full = train(config_with(training={"precision": "fp32"}, optim={"clip_norm": 1.0}), data)
    assert half.epochs[0]["train_loss"] == pytest.approx(full.epochs[0]["train_loss"], rel=0.02)
    assert half.epochs[0]["train_loss"] != full.epochs[0]["train_loss"]


@pytest.mark.spec("T6")
def test_gradients_are_clipped(data: FoldData) -> None:
    run = _Run(config_with(optim={"clip_norm": 1e-3}), data, 0, torch.device("cpu"), None, 0.0)
    run.trained.train()
    run.schedule.apply(run.optimizer, 1, 0)
    run._step(torch.arange(16))
    norm = torch.stack([p.grad.norm() for p in run.trained.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 1e-3 * 1.001


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optim": {"warmup_epochs": 3}}, "leaves none of 3"),
        ({"optim": {"schedule": "step", "decay_epochs": [5, 2]}}, "rising"),
        ({"training": {"concat_scale": 1.0}, "task": "lungsound2"}, "lungsound4"),
        ({"objective": {"tau": 0.0}}, "objective.tau"),
        ({"objective": {"alpha": -1.0}}, "objective.alpha"),
        ({"augment": {"policy": "XL"}}, "icbhi_ast_sup"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config_with(**changes)


def test_switches_of_defects_are_listed() -> None:
    assert config_with().compat == []
    switched: ExperimentConfig = config_with(
        model={"pos_embed_layout": "seed_compat"}, augment={"policy": "LB", "gate": "seed_compat"}
    )
    assert switched.compat == ["augment.gate", "model.pos_embed_layout"]


def test_a_setting_at_its_default_does_not_rename_a_result() -> None:
    written_out = ExperimentConfig.parse(config_with().model_dump(mode="json"))
    assert written_out.config_hash == config_with().config_hash
    assert config_with(training={"sampler": "weighted"}).config_hash != config_with().config_hash
