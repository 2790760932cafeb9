"""What is not ranked, and why: unfinished, broken, tampered with, or tested on other cycles."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.leaderboard_boards import build, table_of
from tests.support.leaderboard_results import RECIPES, Side, five_fold, fold_result, publish
from workers.evaluation import evaluate
from workers.results import PREDICTIONS, RESULT, ResultStore

BEST_MN = RECIPES[2]


@pytest.mark.slow
def test_an_entry_that_lacks_a_fold_is_listed_and_not_ranked(tmp_path: Path):
    five_fold(tmp_path)
    table = table_of(build(tmp_path).boards[0], "validation")
    (left,) = table.incomplete
    assert (left.rank, left.numbers, left.note) == (None, None, "4 of 5 folds done")


@pytest.mark.slow
def test_a_seed_that_lacks_a_fold_does_not_count(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    side = Side("five-fold", patients=20, cycles=200)
    publish(store, BEST_MN, side, range(5), [0, 1])
    publish(store, BEST_MN, side, range(3), [2])
    (entry,) = table_of(build(tmp_path).boards[0], "last").entries
    assert [row.seed for row in entry.seeds] == [0, 1]
    assert len(entry.results) == 10


def test_a_score_that_was_tampered_with_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    path = tmp_path / name[:2] / name / RESULT
    content = json.loads(path.read_text())
    content["protocols"]["last"]["test"]["icbhi4"]["score"] += 5.0
    path.write_text(json.dumps(content))
    board = build(tmp_path).boards[0]
    assert table_of(board, "last").entries == []
    assert "by its predictions" in table_of(board, "last").incomplete[0].note
    assert len(table_of(board, "validation").entries) == 1


def test_a_test_side_with_fewer_cycles_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=[0])
    publish(store, RECIPES[4], Side(cycles=900), seeds=[0])
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[2].config_hash]
    assert table.incomplete[0].note == "tested on 900 of 920 cycles"


def test_a_result_that_cannot_be_read_is_named_and_the_rest_is_built(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    first, second = publish(store, RECIPES[2], Side(), seeds=[0, 1])
    (tmp_path / first[:2] / first / RESULT).write_text('{"schema": 7}')
    built = build(tmp_path)
    assert [problem.result for problem in built.problems] == [first]
    assert built.results == 1
    assert table_of(built.boards[0], "last").entries[0].results == [second]


def test_a_copy_of_a_defect_is_shown_and_not_ranked(tmp_path: Path):
    results = ResultStore.open(str(tmp_path))
    for recipe, changes in ((RECIPES[1], {}), (RECIPES[2], {"compat": ["augment.gate"]})):
        result, predictions = fold_result(recipe, Side(), 0, 0, **changes)
        results.publish(result, {PREDICTIONS: predictions})
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[1].config_hash]
    (copy,) = table.incomplete
    assert copy.compat == ["augment.gate"] and copy.numbers is not None and copy.rank is None
    assert copy.note is not None and "augment.gate" in copy.note and f"{copy.numbers.score.mean:.2f}" in copy.note


def test_an_entry_without_its_predictions_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    (tmp_path / name[:2] / name / PREDICTIONS).unlink()
    table = table_of(build(tmp_path).boards[0], "last")
    assert table.entries == []
    assert PREDICTIONS in table.incomplete[0].note


def test_other_cycles_of_the_same_number_are_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[1], Side(), seeds=[0])
    publish(store, RECIPES[2], Side(), seeds=[0])
    result, _ = fold_result(RECIPES[4], Side(), 0, 0)
    _, others = fold_result(replace(RECIPES[4], skill=9), Side(), 0, 0)
    table = pq.read_table(io.BytesIO(others))
    sink = io.BytesIO()
    renamed = pa.array([f"x{name}" for name in table["cycle_id"].to_pylist()])
    pq.write_table(table.set_column(0, "cycle_id", renamed), sink)
    logits = np.array(table["logits"].to_pylist())
    protocols = {
        name: protocol.model_copy(
            update={"test": evaluate(logits[rows := of(table, name)], np.array(table["label"])[rows])}
        )
        for name, protocol in result.protocols.items()
    }
    store.publish(result.model_copy(update={"protocols": protocols}), {PREDICTIONS: sink.getvalue()})
    found = table_of(build(tmp_path).boards[0], "last")
    assert len(found.entries) == 2
    assert found.incomplete[0].note == "tested on other cycles than most entries of this table"


def of(table: pa.Table, protocol: str) -> np.ndarray:
    return (np.asarray(table["protocol"]) == protocol) & (np.asarray(table["side"]) == "test")


def test_broken_predictions_cost_their_entry_its_rank(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    publish(store, RECIPES[4], Side(), seeds=[0])
    path = tmp_path / name[:2] / name / PREDICTIONS
    path.write_bytes(path.read_bytes()[:200])
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[4].config_hash]
    assert f"{PREDICTIONS} of result {name} cannot be read" in table.incomplete[0].note


def test_a_config_of_another_version_is_named_and_the_rest_is_built(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    first, second = publish(store, RECIPES[2], Side(), seeds=[0]) + publish(store, RECIPES[4], Side(), seeds=[0])
    path = tmp_path / first[:2] / first / RESULT
    content = json.loads(path.read_text())
    del content["config"]["model"]["width"]
    path.write_text(json.dumps(content))
    built = build(tmp_path)
    assert [problem.result for problem in built.problems] == [first]
    assert "'width'" in built.problems[0].what
    assert [entry.results for entry in table_of(built.boards[0], "last").entries] == [[second]]
