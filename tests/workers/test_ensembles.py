"""Ensembles of stored predictions: what fits together, where weights come from, folds, and the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from feature_store.errors import UserError
from tests.support.ensemble_results import cycles_of, guesses, held_out_cycles, publish
from workers.ensembles import EnsembleStore, Settings, build_ensemble, stored
from workers.ensembles.record import ensemble_hash
from workers.evaluation import evaluate
from workers.results import ResultStore


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.open(str(tmp_path))


def logits(table: Any) -> np.ndarray:
    return np.array(table["logits"].to_pylist())


def score_of(values: np.ndarray, labels: np.ndarray) -> float:
    """Score by scikit-learn's confusion matrix."""
    cells = confusion_matrix(labels, values.argmax(axis=1), labels=range(values.shape[1]))
    return 50.0 * (cells[0, 0] / cells[0].sum() + np.trace(cells[1:, 1:]) / cells[1:].sum())


# --- what it is made of ---


@pytest.mark.parametrize("protocol", ["last", "validation"])
def test_the_mean_is_that_of_the_members_probabilities_under_the_protocol(store: ResultStore, protocol: str) -> None:
    names = [publish(store, config, skill=0.8) for config in "abc"]
    made = build_ensemble(store, names, protocol=protocol)
    tables = [store.predictions(name) for name in names]
    of_protocol = [table.filter(np.array(table["protocol"].to_pylist()) == protocol) for table in tables]
    mean = np.mean([softmax(logits(table), axis=1) for table in of_protocol], axis=0)
    own = EnsembleStore(store.storage).predictions(made.hash)
    assert np.allclose(softmax(logits(own), axis=1), mean, atol=1e-6)
    labels = own["label"].to_numpy()
    assert made.overall.score == pytest.approx(score_of(mean, labels))
    assert made.folds[0].test == evaluate(logits(own), labels) and made.overall.pooled == made.folds[0].test
    assert own["protocol"].unique().to_pylist() == [protocol] and made.protocol == protocol


def test_rows_in_another_order_are_put_in_order(store: ResultStore) -> None:
    order = np.random.default_rng(0).permutation(90)
    straight = ResultStore.open(str(store.storage.uri("straight")))
    made = [
        build_ensemble(where, [publish(where, "a"), publish(where, "b", order=given)], method="greedy")
        for where, given in ((store, order), (straight, None))
    ]
    assert made[0].folds == made[1].folds
    assert [m.weight for m in made[0].members] == [m.weight for m in made[1].members]


@pytest.mark.slow
def test_weights_come_from_held_out_patients_and_not_from_the_test_side(tmp_path: Path) -> None:
    """A test side as bad as can be changes no weight; other predictions of the held-out patients do."""
    found = []
    for name, changes in {"as they are": {}, "bad at the test": {"test_skill": -3.0}, "worse": {"skill": 0.2}}.items():
        store = ResultStore.open(str(tmp_path / name))
        members = [publish(store, "a", skill=1.5), publish(store, "b", **{"skill": 1.0, **changes})]
        found.append({m: [w.weight for w in build_ensemble(store, members, method=m).members] for m in
                      ("score", "softmax", "greedy")})  # fmt: skip
    assert found[0] == found[1]
    assert found[0]["score"] != found[2]["score"] and found[0]["softmax"] != found[2]["softmax"]


@pytest.mark.parametrize("by", ["score", "accuracy"])
def test_weights_are_what_members_reach_on_their_held_out_cycles(store: ResultStore, by: str) -> None:
    names = [publish(store, config, skill=skill) for config, skill in (("a", 0.5), ("b", 1.0), ("c", 1.5))]
    values = []
    for name in names:
        table = store.predictions(name, "validation")
        last = table.filter(np.array(table["protocol"].to_pylist()) == "last")
        labels, said = last["label"].to_numpy(), logits(last)
        values.append(score_of(said, labels) / 100 if by == "score" else np.mean(said.argmax(axis=1) == labels))
    settings = Settings.model_validate({"by": by})
    scored = build_ensemble(store, names, method="score", settings=settings)
    assert [m.weight for m in scored.members] == pytest.approx(np.array(values) / np.sum(values))
    soft = build_ensemble(store, names, method="softmax", settings=settings)
    assert [m.weight for m in soft.members] == pytest.approx(softmax(values))
    if by == "score":
        assert [m.validation_score for m in scored.members] == pytest.approx(100 * np.array(values))


@pytest.mark.parametrize("metric", ["accuracy", "uar", "sprsound"])
def test_a_task_s_own_metric_weights_and_measures_where_it_is_another(store: ResultStore, metric: str) -> None:
    names = [publish(store, config, skill=skill, metric=metric) for config, skill in (("a", 0.5), ("b", 1.5))]
    runs = [store.find(name).protocols["last"] for name in names]
    held_out = [run.validation.value(metric) for run in runs if run.validation is not None]
    made = build_ensemble(store, names, method="score")
    assert made.metric == metric
    assert [m.weight for m in made.members] == pytest.approx(np.array(held_out) / np.sum(held_out))
    assert [m.validation_score for m in made.members] == pytest.approx(held_out)
    assert [m.test_score for m in made.members] == pytest.approx([run.test.value(metric) for run in runs])
    own = EnsembleStore(store.storage).predictions(made.hash)
    together = evaluate(logits(own), own["label"].to_numpy())
    assert made.overall.score == pytest.approx(together.value(metric)) != pytest.approx(together.icbhi4.score)
    assert made.overall.cycle_weighted_score == pytest.approx(together.value(metric))


def test_by_the_task_s_own_metric_is_one_ensemble_under_either_name(store: ResultStore) -> None:
    names = [publish(store, config, skill=1.0, metric="accuracy") for config in "ab"]
    for method in ("score", "greedy"):
        by_name = [
            build_ensemble(store, names, method=method, settings=Settings(by=by)) for by in ("score", "accuracy")
        ]
        assert by_name[0] == by_name[1]


def test_names_of_ensembles_stay_where_the_metric_is_icbhi4() -> None:
    """As they were before tasks had metrics of their own; another metric makes another ensemble."""
    name = ensemble_hash(["a", "b"], "score", Settings(rounds=7), "last", "icbhi4")
    assert name == "7c48dd701b6f902e4ab437ce1f4e45d62e170fcc"
    name = ensemble_hash(["a", "b"], "greedy", Settings(by="accuracy", rounds=7), "last", "icbhi4")
    assert name == "8491233a13d334d29da5823f33586b14446ff06d"
    others = [ensemble_hash(["a", "b"], "mean", Settings(), "last", m) for m in ("icbhi4", "accuracy", "uar")]
    assert len(set(others)) == 3


def test_greedy_selection_leaves_out_who_does_not_help_and_says_so(store: ResultStore) -> None:
    names = [publish(store, "good", skill=3.0), publish(store, "bad", skill=-2.0)]
    made = build_ensemble(store, names, method="greedy")
    assert {m.config_hash: m.weight for m in made.members} == {"good": 1.0, "bad": 0.0}
    assert made.folds[0].validation is not None
    assert made.folds[0].validation.icbhi4.score == pytest.approx(made.members[1].validation_score)


# --- seeds and folds ---


def test_members_are_compared_only_where_they_held_out_the_same_patients(store: ResultStore) -> None:
    names = [publish(store, config, seed=seed, skill=skill)
             for seed in (0, 1) for config, skill in (("a", 0.4), ("b", 2.0))]  # fmt: skip
    made = build_ensemble(store, names, method="score")
    for panel in (0, 1):
        members = [m for m in made.members if m.panel == panel]
        assert len({m.seed for m in members}) == 1
        own = np.array([m.validation_score for m in members])
        assert [m.weight for m in members] == pytest.approx(own / own.sum() / 2)
    assert made.folds[0].validation is None, "each seed's held-out patients were trained on by the other"
    assert EnsembleStore(store.storage).predictions(made.hash, "validation").num_rows == 0


def test_seeds_of_one_config_are_averaged_but_not_weighted(store: ResultStore) -> None:
    names = [publish(store, "a", seed=seed) for seed in range(3)]
    assert [m.weight for m in build_ensemble(store, names).members] == pytest.approx([1 / 3] * 3)
    for method in ("score", "softmax", "greedy"):
        with pytest.raises(UserError, match=r"no two members of fold 0 held out the same patients.*method mean"):
            build_ensemble(store, names, method=method)


def test_five_folds_are_made_fold_by_fold(store: ResultStore) -> None:
    names = [publish(store, config, fold=fold, split="five-fold", skill=0.4 + 0.3 * fold)
             for config in "ab" for fold in range(5)]  # fmt: skip
    made = build_ensemble(store, names[::-1], method="softmax")
    assert [fold.fold for fold in made.folds] == [0, 1, 2, 3, 4]
    for fold in range(5):
        assert sum(m.weight for m in made.members if m.fold == fold) == pytest.approx(1.0)
    own = EnsembleStore(store.storage).predictions(made.hash)
    folds, labels, values = own["fold"].to_numpy(), own["label"].to_numpy(), logits(own)
    scores = np.array([score_of(values[folds == fold], labels[folds == fold]) for fold in range(5)])
    sizes = np.bincount(folds)
    assert len(set(sizes)) == 5, "folds differ in size"
    assert made.overall.score == pytest.approx(scores.mean())
    assert made.overall.cycle_weighted_score == pytest.approx((scores * sizes).sum() / sizes.sum())
    assert made.overall.pooled.icbhi4.score == pytest.approx(score_of(values, labels))
    assert own.num_rows == made.overall.pooled.n == sum(90 - 12 * fold for fold in range(5))


def test_members_of_several_features_have_a_data_hash_of_their_own(store: ResultStore) -> None:
    same = build_ensemble(store, [publish(store, "a"), publish(store, "b")])
    other = build_ensemble(store, [publish(store, "a", seed=1), publish(store, "c", seed=1, data_hash="other")])
    assert same.data_hash == "data" and other.data_hash not in {"data", "other"} and len(other.data_hash) == 16


# --- what does not fit ---


def changed(side: dict[str, np.ndarray], column: str, row: int, value: Any) -> dict[str, np.ndarray]:
    values = side[column].copy()
    values[row] = value
    return {**side, column: values}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"split": "official-no-overlap"}, "its split is official-no-overlap, that of .* is official"),
        ({"split_hash": "another"}, "table of the split is another"),
        ({"task": "lungsound2"}, "task is lungsound2"),
        ({"dataset": "other"}, "dataset is other"),
        ({"recordings": 12}, "12 of 920 recordings"),
        ({"classes": ["normal", "wheeze", "crackle", "both"]}, "list of classes is normal, wheeze"),
        ({"fold": 1}, "fold 0 has no member of config b, seed 0"),
        ({"test": changed(cycles_of(0), "cycle_id", 7, "x#1")}, "1 cycles only here, 1 only there"),
        (
            {"test": changed(cycles_of(0), "label", 7, 3 - cycles_of(0)["label"][7])},
            "cycle t0-108#007 has label",
        ),
        ({"test": {k: v[:80] for k, v in cycles_of(0).items()}}, "0 cycles only here, 10 only there"),
    ],
    ids=["split", "table", "task", "dataset", "extent", "classes", "fold", "cycle", "label", "fewer"],
)
def test_a_member_that_does_not_fit_is_refused_by_name(store: ResultStore, changes: dict[str, Any], told: str) -> None:
    names = [publish(store, "a"), publish(store, "b", **changes)]
    with pytest.raises(UserError, match=told) as refused:
        build_ensemble(store, names)
    assert "fold" in changes or f"member {names[1][:12]} (config b, seed 0, fold 0)" in str(refused.value)
    assert EnsembleStore(store.storage).hashes() == []


def test_a_cycle_that_stands_twice_is_refused(store: ResultStore) -> None:
    cycles = cycles_of(0)
    twice = {column: np.concatenate([values, values[:1]]) for column, values in cycles.items()}
    with pytest.raises(UserError, match="more than once"):
        build_ensemble(store, [publish(store, "a"), publish(store, "b", test=twice)])


def test_what_cannot_be_a_member(store: ResultStore) -> None:
    name = publish(store, "a")
    again = publish(store, "a", semantics=2)
    for members, told in (
        ([name], "two members or more"),
        ([name, name], f"given twice: {name[:12]}"),
        ([name, again], "appears twice with this seed and fold"),
        ([name, "f00d" * 10], "no result f00d"),
        ([name, publish(store, "a", fold=1)], "one member only"),
    ):
        with pytest.raises(UserError, match=told):
            build_ensemble(store, members)
    pair = [name, publish(store, "b")]
    with pytest.raises(UserError, match=r"no ensembles under protocol 'test_best'.*validation or last"):
        build_ensemble(store, pair, protocol="test_best")
    with pytest.raises(UserError, match="did you mean 'last'"):
        build_ensemble(store, pair, protocol="lats")


def test_held_out_labels_that_differ_make_another_panel(store: ResultStore) -> None:
    side = held_out_cycles(0, 0)
    other = changed(side, "label", 0, 3 - side["label"][0])
    other["logits"] = guesses(side["label"], 1.0, 5)
    names = [publish(store, "a"), publish(store, "b", held_out=other)]
    with pytest.raises(UserError, match="no two members"):
        build_ensemble(store, names, method="score")


# --- the store ---


@pytest.mark.slow
def test_an_ensemble_is_stored_once_under_a_name_of_its_members_and_method(store: ResultStore, tmp_path: Path) -> None:
    names = [publish(store, config, compat=["augment.gate"] if config == "b" else []) for config in "ab"]
    made = build_ensemble(store, names, method="score")
    before = {path: path.read_bytes() for path in (tmp_path / "ensembles").rglob("*") if path.is_file()}
    assert sorted(path.relative_to(tmp_path).as_posix() for path in before) == [
        f"ensembles/{made.hash}/ensemble.json", f"ensembles/{made.hash}/predictions.parquet"
    ]  # fmt: skip
    assert build_ensemble(store, names[::-1], method="score") == made
    assert {path: path.read_bytes() for path in before} == before
    assert made.compat == ["augment.gate"] and made.command and made.created and made.lungtune
    others = [
        build_ensemble(store, names),
        build_ensemble(store, names, method="score", protocol="validation"),
        build_ensemble(store, names, method="score", settings=Settings(by="accuracy")),
        build_ensemble(store, [*names, publish(store, "c")], method="score"),
    ]
    assert len({made.hash, *(other.hash for other in others)}) == 5
    assert build_ensemble(store, names, settings=Settings(by="accuracy", rounds=3)).hash == others[0].hash
    assert stored(str(tmp_path)) == sorted([made, *others], key=lambda one: one.hash)
    assert len(store.hashes()) == 3, "an ensemble is no fold run"


def test_an_ensemble_without_its_json_is_not_there(store: ResultStore, tmp_path: Path) -> None:
    """A writer that died after the predictions and before the commit; the next one makes it whole."""
    names = [publish(store, config) for config in "ab"]
    made = build_ensemble(store, names)
    (tmp_path / "ensembles" / made.hash / "ensemble.json").unlink()
    assert stored(str(tmp_path)) == []
    assert build_ensemble(store, names).overall == made.overall
    assert len(stored(str(tmp_path))) == 1


def test_an_ensemble_that_cannot_be_read_is_told_by_its_place(store: ResultStore, tmp_path: Path) -> None:
    made = build_ensemble(store, [publish(store, config) for config in "ab"])
    path = tmp_path / "ensembles" / made.hash / "ensemble.json"
    content = json.loads(path.read_text())
    del content["members"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{made.hash}/ensemble.json.*is not an ensemble of this version"):
        stored(str(tmp_path))
    with pytest.raises(UserError, match="there is no ensemble"):
        EnsembleStore(store.storage).predictions("0" * 40)
