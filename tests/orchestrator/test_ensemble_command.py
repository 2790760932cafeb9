"""`lungtune ensemble`: real trainings combined, the best ones chosen by held-out patients, and errors to act on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from feature_store.settings import Settings
from orchestrator.analysis import bootstrap
from orchestrator.ensembles import standing
from search_spaces.overrides import merge
from tests.conftest import Run
from tests.support.ensemble_results import cycles_of, held_out_cycles, publish
from tests.support.tiny_sweep import TINY_CONFIG
from workers.ensembles import EnsembleStore, build_ensemble, stored
from workers.results import ResultStore

Ensemble = Callable[..., dict[str, Any]]


@pytest.fixture
def store(settings: Settings) -> ResultStore:
    return ResultStore.open(settings.results)


@pytest.fixture
def ensemble(run: Run) -> Ensemble:
    def made(*arguments: str) -> dict[str, Any]:
        code, printed, told = run("ensemble", *arguments, "--json")
        assert code == 0, told
        return json.loads(printed)

    return made


@pytest.mark.slow
def test_real_trainings_are_combined_and_stored(
    run: Run, ensemble: Ensemble, store: ResultStore, settings: Settings, tmp_path: Path
) -> None:
    names = []
    for index, changes in enumerate(({}, {"hidden": 6})):
        path = tmp_path / f"{index}.yaml"
        path.write_text(yaml.safe_dump(merge(TINY_CONFIG, {"model": changes})))
        code, printed, told = run("train", str(path), "--json")
        assert code == 0, told
        names.append(json.loads(printed)["runs"][0]["hash"])
    said = ensemble(names[0][:8], names[1][:8], "--method", "softmax")
    made = said["ensemble"]
    assert [member["hash"] for member in sorted(made["members"], key=lambda m: names.index(m["hash"]))] == names
    assert {member["panel"] for member in made["members"]} == {0}, "one seed holds out the same patients"
    assert made["folds"][0]["validation"]["n"] == store.find(names[0]).data.validation
    assert [one.hash for one in stored(settings.results)] == [made["hash"]]
    assert Path(said["at"]).is_dir() and made["synthetic"] is True
    code, printed, _ = run("ensemble", *names, "--method", "softmax")
    assert code == 0 and f"{made['overall']['score']:.2f}" in printed and "Synthetic sounds" in printed
    assert all(f"{member['weight']:.4f}" in printed for member in made["members"])
    assert f"of {said['standing']['of']} with the single configs" in printed and said["standing"]["of"] == 3


def test_it_stands_where_its_score_puts_it_with_intervals_over_patients(ensemble: Ensemble, store: ResultStore) -> None:
    names = [publish(store, "a", skill=0.9), publish(store, "b", skill=0.8)]
    publish(store, "strong", skill=6.0)
    publish(store, "weak", skill=-6.0)
    publish(store, "elsewhere", skill=9.0, split="official-no-overlap")
    stands = ensemble(*names)["standing"]
    assert (stands["place"], stands["of"]) == (2, 5)
    made = stored(store.storage.uri(""))[0]
    scores = [store.find(name).protocols["last"].test.icbhi4.score for name in names]
    assert stands["gain"] == pytest.approx(made.overall.score - np.mean(scores))
    low, high = stands["interval"]
    assert low < made.overall.score < high
    assert stands["gain_interval"][0] <= stands["gain"] <= stands["gain_interval"][1]
    assert {t["config_hash"]: t["score"] for t in stands["trainings"]} == pytest.approx(
        dict(zip("ab", scores, strict=True))
    )


def test_a_task_of_another_metric_is_chosen_measured_and_told_by_it(
    run: Run, ensemble: Ensemble, store: ResultStore
) -> None:
    """`abnormal` has more cycles right than `normal`, whose Score is higher, since it misses no normal cycle."""

    def called(config: str, labels: np.ndarray) -> np.ndarray:
        if config == "best":
            return np.where(labels == 3, 0, labels)
        seldom = np.where(np.arange(len(labels)) % 4 == 0, labels, 0)
        return np.where(labels == 0, 1, labels) if config == "abnormal" else np.where(labels == 0, 0, seldom)

    sides = {"test": cycles_of(0), "held_out": held_out_cycles(0, 0)}
    for config in ("best", "abnormal", "normal"):
        said = {name: np.eye(4, dtype=np.float32)[called(config, side["label"])] for name, side in sides.items()}
        publish(store, config, metric="accuracy", **{name: sides[name] | {"logits": said[name]} for name in sides})
    single = {result.key.config_hash: result.protocols["last"] for result in store.iterate()}
    for side in ("test", "validation"):
        one, other = (getattr(single[config], side) for config in ("abnormal", "normal"))
        assert one.accuracy > other.accuracy and one.icbhi4.score < other.icbhi4.score
    found = ensemble("--top", "2")
    members, overall, stands = found["ensemble"]["members"], found["ensemble"]["overall"], found["standing"]
    assert {member["config_hash"] for member in members} == {"best", "abnormal"}
    for member in members:
        assert member["validation_score"] == pytest.approx(single[member["config_hash"]].validation.accuracy)
        assert member["test_score"] == pytest.approx(single[member["config_hash"]].test.accuracy)
    assert overall["score"] == pytest.approx(overall["pooled"]["accuracy"])
    assert stands["interval"][0] < overall["score"] < stands["interval"][1]
    assert stands["gain"] == pytest.approx(overall["score"] - np.mean([member["test_score"] for member in members]))
    assert stands["gain_interval"][0] <= stands["gain"] <= stands["gain_interval"][1]
    assert stands["place"] == 1 + sum(one.test.accuracy > overall["score"] for one in single.values())
    code, printed, _ = run("ensemble", "--top", "2")
    assert code == 0 and "held-out accuracy" in printed and "Score" not in printed


def test_intervals_are_those_of_a_bootstrap_written_out(store: ResultStore) -> None:
    """Patients drawn one by one with numpy, the cycles of each put together, both sides of the difference alike."""
    names = [publish(store, config, skill=0.7) for config in "ab"]
    made = build_ensemble(store, names)
    found = standing(store, made, resamples=300)
    predictions = EnsembleStore(store.storage).predictions(made.hash)
    tables = [predictions, *(t.filter(np.array(t["protocol"].to_pylist()) == "last")
                             for t in map(store.predictions, names))]  # fmt: skip
    patients, labels = np.array(predictions["patient"].to_pylist()), cycles_of(0)["label"]
    hit = np.array([np.array(t["logits"].to_pylist()).argmax(axis=1) == labels for t in tables]).astype(float)
    people = np.unique(patients)
    own, gains = [], []
    for row in bootstrap.draws(len(people), 300):
        cycles = np.concatenate(
            [np.repeat(np.flatnonzero(patients == p), int(n)) for p, n in zip(people, row, strict=True)]
        )
        normal, abnormal = cycles[labels[cycles] == 0], cycles[labels[cycles] > 0]
        score = 50 * (hit[:, normal].mean(axis=1) + hit[:, abnormal].mean(axis=1))
        own.append(score[0])
        gains.append(score[0] - score[1:].mean())
    assert found.interval == pytest.approx(np.percentile(own, [2.5, 97.5]), abs=1e-3)
    assert found.gain_interval == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=1e-3)


# --- choosing the best ---


def test_the_best_are_chosen_by_held_out_patients_and_not_by_the_test_side(
    ensemble: Ensemble, store: ResultStore
) -> None:
    for config, skill, test_skill in (("a", 0.2, 9.0), ("b", 2.0, -9.0), ("c", 3.0, -9.0), ("d", 0.1, 9.0)):
        publish(store, config, skill=skill, test_skill=test_skill)
    made = ensemble("--top", "2", "--method", "greedy")["ensemble"]
    assert {member["config_hash"] for member in made["members"]} == {"b", "c"}


@pytest.mark.slow
def test_the_best_are_compared_over_the_seeds_that_enough_configs_have(ensemble: Ensemble, store: ResultStore) -> None:
    for config, seeds in (("a", (0, 1, 2)), ("b", (0, 1, 2, 3)), ("c", (0, 1)), ("lucky", (4,))):
        for seed in seeds:
            publish(store, config, seed=seed, skill={"lucky": 9.0, "c": 3.0}.get(config, 1.0))
    two = ensemble("--top", "2")["ensemble"]["members"]
    assert {(m["config_hash"], m["seed"]) for m in two} == {(c, s) for c in "ab" for s in (0, 1, 2)}
    three = ensemble("--top", "3", "--protocol", "validation")["ensemble"]["members"]
    assert {(m["config_hash"], m["seed"]) for m in three} == {(c, s) for c in "abc" for s in (0, 1)}


@pytest.mark.slow
def test_five_folds_of_the_best(run: Run, ensemble: Ensemble, store: ResultStore) -> None:
    for config in "abc":
        for fold in range(5 if config != "c" else 4):
            publish(store, config, fold=fold, split="five-fold", skill={"c": 5.0}.get(config, 1.0))
    said = ensemble("--top", "2", "--split", "five-fold", "--method", "score")
    made = said["ensemble"]
    assert {m["config_hash"] for m in made["members"]} == {"a", "b"}, "c lacks a fold"
    assert len(made["members"]) == 10 and len(said["standing"]["trainings"]) == 2
    assert (said["standing"]["place"], said["standing"]["of"]) == (1, 3)
    printed = run("ensemble", "--top", "2", "--split", "five-fold", "--method", "score")[1]
    assert f"{made['overall']['pooled']['icbhi4']['score']:.2f}" in printed
    assert f"{made['overall']['cycle_weighted_score']:.2f}" in printed
    two = [m["hash"] for m in made["members"] if m["fold"] < 2]
    assert ensemble(*two)["standing"]["place"] is None, "two of five folds have no place beside the whole"
    assert "lacks folds" in run("ensemble", *two)[1]


def test_an_older_version_of_the_training_is_not_among_the_best(ensemble: Ensemble, store: ResultStore) -> None:
    publish(store, "a", skill=5.0)
    for config in "abc":
        publish(store, config, semantics=2, skill={"b": 0.1}.get(config, 1.0))
    members = ensemble("--top", "2")["ensemble"]["members"]
    chosen = [store.find(member["hash"]) for member in members]
    assert {(r.key.config_hash, r.key.semantics) for r in chosen} == {("a", 2), ("c", 2)}


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give results, or --top N"),
        (("abc", "--top", "2"), "give results, or --top N"),
        (("{a}", "{b}", "--method", "meen"), "did you mean 'mean'"),
        (("{a}", "{b}", "--by", "scores"), "did you mean 'score'"),
        (("{a}", "{b}", "--protocol", "test_best"), "no ensembles under protocol 'test_best'"),
        (("--top", "2", "--protocol", "test_best"), "no ensembles under protocol 'test_best'"),
        (("{a}",), "two members or more"),
        (("{a}", "{a}"), "given twice"),
        (("{a}", "ffff"), "no result begins with 'ffff'"),
        (("--top", "3"), "2 configs are complete under protocol 'last', and 3 are asked for"),
        (("--top", "2", "--split", "offical"), "did you mean 'official'"),
        (("--top", "2", "--task", "voice5"), "no finished fold run"),
        (("{a}", "{seed1}", "--method", "greedy"), "the seed draws the held-out patients"),
    ],
)
def test_bad_input(run: Run, store: ResultStore, arguments: tuple[str, ...], told: str) -> None:
    names = {"a": publish(store, "a"), "b": publish(store, "b"), "seed1": publish(store, "a", seed=1)}
    code, printed, error = run("ensemble", *(argument.format(**names) for argument in arguments))
    assert code == 2 and told in error and not printed


def test_one_name_for_several_sets_of_cycles_is_refused(run: Run, store: ResultStore) -> None:
    for config, table in (("a", "one"), ("b", "two")):
        publish(store, config, split_hash=table)
    code, _, error = run("ensemble", "--top", "2")
    assert code == 2 and "several sets of cycles" in error and "by their hashes" in error


def test_help_shows_an_example(run: Run) -> None:
    code, printed, _ = run("ensemble", "--help")
    assert code == 0 and "Example: lungtune ensemble" in printed
