"""Boards that are ranked by another number than ICBHI's Score, in a real browser: their columns say which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import Board, Leaderboard
from tests.support import chromium
from tests.support.leaderboard_boards import write_index
from tests.support.leaderboard_results import other_metrics

pytestmark = pytest.mark.usefixtures("no_problems")

DESK = {"width": 1280, "height": 900}
COLUMNS = {
    "breathing-phase": ["Accuracy", "UAR", "AUROC", "inhale", "exhale"],
    "aicup-voice": ["UAR", "Pooled", "Accuracy", "AUROC", "normal", "phonotrauma", "incomplete_closure", "vocal_palsy",
                    "neoplasm"],
    "sprsound": ["SPRSound Score", "Sp", "Se"],
}  # fmt: skip
CORPORA = pytest.mark.parametrize("dataset", COLUMNS)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return build_board(other_metrics(tmp_path_factory.mktemp("results")), resamples=200)


@pytest.fixture(scope="module")
def page(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_index(board, tmp_path_factory.mktemp("site"))


def board_of(board: Leaderboard, dataset: str) -> Board:
    return next(one for one in board.boards if one.data.dataset == dataset)


def table(board: Board) -> str:
    return f"document.getElementById({json.dumps(board.id)}).querySelector('table.ranking')"


@CORPORA
def test_the_columns_name_the_metric_and_what_stands_beside_it(
    browser: chromium.Browser, page: Path, board: Leaderboard, dataset: str
):
    browser.open(page, **DESK)
    heads = browser.evaluate(f"[...{table(board_of(board, dataset))}.tHead.rows[0].cells].map(cell => cell.innerText)")
    start = heads.index("Objective") + 1
    assert heads[start : heads.index("Seeds")] == COLUMNS[dataset]


@CORPORA
def test_a_script_draws_the_rows_that_the_page_holds(
    browser: chromium.Browser, page: Path, board: Leaderboard, dataset: str
):
    rows = (
        f"[...{table(board_of(board, dataset))}.tBodies[0].rows].map(row =>"
        " [...row.cells].slice(1).map(cell => cell.outerHTML).join('|'))"
    )
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, **DESK)
        still = browser.evaluate(rows)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(page, **DESK)
    assert browser.evaluate(rows) == still
    assert len(still) == len(board_of(board, dataset).tables[0].entries)


def test_recalls_can_be_sorted(browser: chromium.Browser, page: Path, board: Leaderboard):
    voice = board_of(board, "aicup-voice")
    browser.open(page, **DESK)
    browser.evaluate(f"{table(voice)}.querySelector('th[data-key=recall3] button').click()")
    by_recall = sorted(voice.tables[0].entries, key=lambda entry: -entry.recall[3])
    found = browser.evaluate(f"[...{table(voice)}.tBodies[0].rows].map(row => row.dataset.id)")
    assert found == [entry.id for entry in by_recall] != [entry.id for entry in voice.tables[0].entries]


def test_the_page_says_what_each_metric_means(browser: chromium.Browser, page: Path):
    browser.open(page, **DESK)
    text = browser.evaluate("document.body.textContent")
    for words in (
        "Ranked by accuracy: share of cycles called by their class.",
        "Ranked by UAR: unweighted average recall",
        "Ranked by SPRSound Score: mean of the average and the harmonic mean",
        "calling every cycle by one class",
    ):
        assert words in text, words
    assert "Calling everything normal scores 50" not in text


def test_published_results_are_filtered_over_all_corpora(browser: chromium.Browser, page: Path, board: Leaderboard):
    """A corpus of which no row is left hides its heading and its table, too."""
    browser.open(page, **DESK)
    visible = "[...document.querySelectorAll('#published tbody tr')].filter(row => row.checkVisibility())"
    heads = (
        "[...document.querySelectorAll('#published h3')].filter(head => head.checkVisibility()).map(h => h.innerText)"
    )
    assert browser.evaluate(f"{visible}.length") == len(board.published) == 10
    assert browser.evaluate(heads) == ["breathing-phase · phase2", "aicup-voice · voice5"]
    choose = (
        "(() => {{ const field = document.getElementById('paper-filters').elements[{0}]; field.value = {1};"
        " field.dispatchEvent(new Event('input', {{bubbles: true}})) }})()"
    )
    browser.evaluate(choose.format("'dataset'", "'aicup-voice'"))
    assert browser.evaluate(f"{visible}.map(row => row.cells[2].innerText)") == ["60.07", "60.76"]
    assert browser.evaluate(heads) == ["aicup-voice · voice5"]
    assert browser.evaluate("document.querySelector('#published .shown').textContent") == "2 results of 10"
    browser.evaluate(choose.format("'dataset'", "''"))
    browser.evaluate(choose.format("'split'", "'contest-private'"))
    assert browser.evaluate(f"{visible}.length") == 4
    assert len(browser.evaluate(heads)) == 2
