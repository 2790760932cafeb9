"""What a build keeps for the next one changes its time and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import Leaderboard
from tests.support.leaderboard_results import RECIPES, Side, fold_result, publish, realistic
from workers.results import PREDICTIONS, RESULT, FoldResult, ResultStore


class Counting(ResultStore):
    """Counts what is read of the truth."""

    results = 0
    tables = 0

    def get(self, result_hash: str) -> FoldResult | None:
        self.results += 1
        return super().get(result_hash)

    def predictions(self, result_hash: str, side: str = "test"):
        self.tables += 1
        return super().predictions(result_hash, side)


def build(folder: Path, cache: Path | None) -> tuple[Leaderboard, Counting]:
    store = Counting(ResultStore.open(str(folder)).storage)
    return build_board(store, resamples=100, cache=cache, generated="now"), store


@pytest.mark.slow
def test_a_second_build_reads_nothing_and_gives_the_same_board(tmp_path: Path):
    realistic(tmp_path / "results")
    without, _ = build(tmp_path / "results", None)
    first, read = build(tmp_path / "results", tmp_path / "cache")
    second, read_again = build(tmp_path / "results", tmp_path / "cache")
    assert read.results > 0 < read.tables
    assert (read_again.results, read_again.tables) == (0, 0)
    assert first == second == without


def test_a_new_result_is_read_alone(tmp_path: Path):
    store = ResultStore.open(str(tmp_path / "results"))
    publish(store, RECIPES[2], Side(), seeds=[0, 1])
    build(tmp_path / "results", tmp_path / "cache")
    publish(store, RECIPES[4], Side(), seeds=[0])
    board, read = build(tmp_path / "results", tmp_path / "cache")
    assert (board.results, read.tables) == (3, 1)
    assert build(tmp_path / "results", tmp_path / "cache")[1].results == 0


def test_a_result_that_is_gone_is_not_shown(tmp_path: Path):
    first, second = publish(ResultStore.open(str(tmp_path / "results")), RECIPES[2], Side(), seeds=[0, 1])
    build(tmp_path / "results", tmp_path / "cache")
    (tmp_path / "results" / first[:2] / first / RESULT).unlink()
    board, _ = build(tmp_path / "results", tmp_path / "cache")
    assert board.boards[0].tables[0].entries[0].results == [second]


def test_a_result_that_was_trained_again_is_read_again(tmp_path: Path):
    (name,) = publish(ResultStore.open(str(tmp_path / "results")), RECIPES[2], Side(), seeds=[0])
    build(tmp_path / "results", tmp_path / "cache")
    path = tmp_path / "results" / name[:2] / name / RESULT
    content = json.loads(path.read_text())
    content["protocols"]["last"]["test"]["icbhi4"]["score"] += 5.0
    path.write_text(json.dumps(content, indent=2))
    board, _ = build(tmp_path / "results", tmp_path / "cache")
    assert "by its predictions" in board.boards[0].tables[1].incomplete[0].note


def test_two_result_stores_share_a_cache_and_no_result(tmp_path: Path):
    publish(ResultStore.open(str(tmp_path / "one")), RECIPES[2], Side(), seeds=[0])
    result, predictions = fold_result(RECIPES[2], Side(), 0, 0)
    other = result.model_copy(update={"test_reads": 7})
    ResultStore.open(str(tmp_path / "two")).publish(other, {PREDICTIONS: predictions})
    build(tmp_path / "one", tmp_path / "cache")
    assert build(tmp_path / "two", tmp_path / "cache")[0].boards[0].tables[0].entries[0].test_reads == 7
    assert build(tmp_path / "one", tmp_path / "cache")[0].boards[0].tables[0].entries[0].test_reads == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "folder"])
def test_a_cache_that_cannot_be_used_costs_only_time(tmp_path: Path, damage: str):
    publish(ResultStore.open(str(tmp_path / "results")), RECIPES[2], Side(), seeds=[0])
    whole, _ = build(tmp_path / "results", tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    if damage == "folder":  # nothing can be kept where a file stands in the folder's place
        file.unlink()
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").write_text("")
    else:
        file.write_bytes(file.read_bytes()[:100] if damage == "cut" else b"")
    assert build(tmp_path / "results", tmp_path / "cache")[0] == whole


@pytest.mark.parametrize(("column", "text"), [("result", "{}"), ("tallies", '{"last": {"cycles": 7}}')])
def test_what_another_version_kept_is_read_anew(tmp_path: Path, column: str, text: str):
    publish(ResultStore.open(str(tmp_path / "results")), RECIPES[2], Side(), seeds=[0])
    whole, _ = build(tmp_path / "results", tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    table = pq.read_table(file)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([text])), file)
    board, read = build(tmp_path / "results", tmp_path / "cache")
    assert board == whole
    assert read.tables == 1
    assert build(tmp_path / "results", tmp_path / "cache")[1].results == 0


def test_a_cache_of_an_older_layout_is_read_anew(tmp_path: Path):
    publish(ResultStore.open(str(tmp_path / "results")), RECIPES[2], Side(), seeds=[0])
    whole, _ = build(tmp_path / "results", tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    pq.write_table(pq.read_table(file).replace_schema_metadata({"version": "2"}), file)
    board, read = build(tmp_path / "results", tmp_path / "cache")
    assert (board, read.tables) == (whole, 1)
