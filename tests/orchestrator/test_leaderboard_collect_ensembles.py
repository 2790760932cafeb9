"""Stored ensembles stand on the board beside the models that they are made of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import Entry, Leaderboard, Table
from tests.support.leaderboard_boards import table_of
from tests.support.leaderboard_results import RECIPES, Recipe, Side, publish
from workers.ensembles import EnsembleResult, EnsembleStore, build_ensemble
from workers.evaluation import evaluate
from workers.results import ResultStore

SIDE = Side(both_sides=("103",))
FOLDS = Side("five-fold", patients=12, cycles=150, both_sides=())
AST, MN = RECIPES[1], RECIPES[2]


def build(store: ResultStore) -> Leaderboard:
    return build_board(store, resamples=300)


def ensemble_of(table: Table) -> Entry:
    (found,) = [entry for entry in (*table.entries, *table.incomplete) if entry.kind == "ensemble"]
    return found


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.open(str(tmp_path / "results"))


def ensemble(store: ResultStore, recipes: tuple[Recipe, ...] = (AST, MN), seeds: tuple[int, ...] = (0, 1)):
    hashes = [name for recipe in recipes for name in publish(store, recipe, SIDE, seeds=seeds)]
    return build_ensemble(store, hashes, method="mean", protocol="last")


@pytest.mark.slow
def test_an_ensemble_is_ranked_with_its_members(store: ResultStore):
    stored = ensemble(store)
    table = table_of(build(store).boards[0])
    entry = ensemble_of(table)
    assert [e.kind for e in table.entries].count("model") == 2
    assert [e.rank for e in table.entries] == [1, 2, 3]
    predictions = EnsembleStore(store.storage).predictions(stored.hash)
    metrics = evaluate(np.array(predictions["logits"].to_pylist()), np.array(predictions["label"]))
    assert entry.numbers.score.mean == pytest.approx(metrics.icbhi4.score)
    assert entry.numbers.auroc.mean == pytest.approx(metrics.auroc)
    assert entry.numbers.score.low < entry.numbers.score.mean < entry.numbers.score.high
    assert (entry.numbers.score.sd, entry.config_hash, entry.model.label) == (None, stored.hash, "Ensemble of 4")
    assert entry.confusion == metrics.confusion
    assert entry.without_shared is not None
    assert entry.cycles_hash == table.entries[0].cycles_hash
    assert not [e for e in build(store).boards[0].tables[0].entries if e.kind == "ensemble"]  # of another protocol


def test_members_are_named_by_their_entries_and_weigh_one_together(store: ResultStore):
    ensemble(store)
    table = table_of(build(store).boards[0])
    members = ensemble_of(table).members
    models = {entry.id: entry for entry in table.entries if entry.kind == "model"}
    assert {member.id for member in members} == set(models)
    for member in members:
        assert member.weight == pytest.approx(0.5)
        assert member.label == models[member.id].model.label
        assert member.results == sorted(models[member.id].results)


def test_it_costs_what_all_its_members_cost(store: ResultStore):
    ensemble(store)
    entry = ensemble_of(table_of(build(store).boards[0]))
    assert entry.cost.train_minutes == pytest.approx(2 * (AST.minutes + MN.minutes))
    assert entry.model.parameters == 2 * (AST.parameters + MN.parameters)
    assert entry.pretraining == "ImageNet + AudioSet"


@pytest.mark.slow
def test_over_folds_it_has_pooled_and_weighted_scores_and_a_document(store: ResultStore):
    hashes = [name for recipe in (AST, MN) for name in publish(store, recipe, FOLDS, range(5), [0])]
    stored = build_ensemble(store, hashes, method="mean", protocol="validation")
    built = build(store)
    entry = ensemble_of(table_of(built.boards[0], "validation"))
    assert entry.numbers.score.mean == pytest.approx(stored.overall.score)
    assert entry.numbers.pooled_score.mean == pytest.approx(stored.overall.pooled.icbhi4.score)
    assert entry.cycle_weighted.mean == pytest.approx(stored.overall.cycle_weighted_score)
    found = Details(built, store).entry(entry)
    sums = np.array([np.sum(fold, axis=0) for fold in found.hits])
    assert (50 * (sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3])).mean() == pytest.approx(stored.overall.score)
    assert (found.curves, found.config["method"], len(found.config["members"])) == ([], "mean", 10)
    assert (found.cycles_hash, len(found.predicted)) == (entry.cycles_hash, 5 * 150)
    assert len(list(Details(built, store).documents({}))) == 5


def test_an_ensemble_with_a_member_lost_is_named_and_the_rest_is_built(store: ResultStore, tmp_path: Path):
    stored = ensemble(store)
    lost = stored.members[0].hash
    shutil.rmtree(tmp_path / "results" / lost[:2] / lost)
    built = build(store)
    (problem,) = built.problems
    assert problem.result == stored.hash
    assert f"member {lost[:12]}" in problem.what
    assert [entry.kind for entry in table_of(built.boards[0]).entries] == ["model", "model"]


@pytest.mark.parametrize("damage", ["version", "score", "predictions"])
def test_a_broken_ensemble_is_not_ranked(store: ResultStore, tmp_path: Path, damage: str):
    stored = ensemble(store)
    folder = tmp_path / "results" / "ensembles" / stored.hash
    if damage == "predictions":
        (folder / "predictions.parquet").write_bytes(b"PAR1")
    else:
        content = json.loads((folder / "ensemble.json").read_text())
        if damage == "version":
            del content["members"]
        else:
            content["folds"][0]["test"]["icbhi4"]["score"] += 5
        (folder / "ensemble.json").write_text(json.dumps(content))
    built = build(store)
    table = table_of(built.boards[0])
    assert [entry.kind for entry in table.entries] == ["model", "model"]
    if damage == "version":
        assert [problem.result for problem in built.problems] == [stored.hash]
        assert not table.incomplete
    else:
        said = {"score": "by its predictions", "predictions": "cannot be read"}[damage]
        assert said in ensemble_of(table).note


def test_an_ensemble_without_all_folds_is_not_ranked(store: ResultStore):
    hashes = [name for recipe in (AST, MN) for name in publish(store, recipe, FOLDS, range(3), [0])]
    build_ensemble(store, hashes, method="mean", protocol="last")
    assert ensemble_of(table_of(build(store).boards[0])).note == "3 of 5 folds done"


@pytest.mark.slow
def test_ensembles_say_in_what_they_differ(store: ResultStore):
    first: EnsembleResult = ensemble(store)
    third = replace(MN, lr=0.5, skill=0.4)
    publish(store, third, SIDE, seeds=[0, 1])
    hashes = [member.hash for member in first.members if member.config_hash == MN.config_hash]
    other = publish_hashes(store, third)
    build_ensemble(store, [*hashes, *other], method="mean", protocol="last")
    entries = [entry for entry in table_of(build(store).boards[0]).entries if entry.kind == "ensemble"]
    assert len({entry.differs["configs"] for entry in entries}) == 2
    assert all(MN.config_hash[:8] in entry.differs["configs"] for entry in entries)


def publish_hashes(store: ResultStore, recipe: Recipe) -> list[str]:
    return [result.hash for result in store.iterate() if result.key.config_hash == recipe.config_hash]
