"""Text from elsewhere in CSV and Markdown: it is shown as it is, and neither runs nor breaks what is around it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from orchestrator.csv_cells import cell
from orchestrator.leaderboard.exports import to_csv, to_markdown
from orchestrator.leaderboard.schema import Leaderboard, Problem
from orchestrator.markdown import code, row, text
from orchestrator.nightly.changes import compare
from orchestrator.nightly.changes import page as night_page
from orchestrator.nightly.snapshot import Checked, Snapshot, Standing
from orchestrator.registry.card.card_markdown import page as card_page
from tests.support.leaderboard_boards import build, table_of
from tests.support.leaderboard_results import RECIPES, Side, publish
from tests.support.model_cards import a_card
from workers.results import ResultStore

NASTY = "<img src=x onerror=alert(1)> | a\n# b [c](javascript:d) ![e](f) `g` **h** &lt; \\| <script>i</script>"


def rendered(markdown: str) -> str:
    """As a reader that lets HTML through shows it."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def harmless(markdown: str) -> bool:
    html = rendered(markdown)
    return not any(tag in html for tag in ("<img", "<script", "<a ", "<h1>b"))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_text(begin: str) -> None:
    assert cell(f"{begin}SUM(A1)") == f"'{begin}SUM(A1)"
    assert cell(f"a{begin}b") == f"a{begin}b"


@pytest.mark.parametrize("number", [-1.5, -3, 0, True, None, "-1.5", "+3", "-2e-05", "-.5", "7."])
def test_numbers_stay_numbers(number: object) -> None:
    assert cell(number) is number


@pytest.mark.parametrize("nasty", ["-1+cmd|' /C calc'!A0", "-", "+1-1", "-1e", "--1"])
def test_what_only_looks_like_a_number_is_text(nasty: str) -> None:
    assert cell(nasty) == f"'{nasty}"


def test_markdown_shows_foreign_text_as_it_is() -> None:
    html = rendered(text(NASTY))
    assert harmless(text(NASTY))
    shown = MarkdownIt("commonmark").parse(text(NASTY))[1].children or []
    assert "".join(token.content for token in shown) == " ".join(NASTY.split()), html
    table = rendered("\n".join([row(["a", "b"]), row(["---"] * 2), row([text(NASTY), code("x|`y`|z")])]))
    assert table.count("<td>") == 2 and "<code>x|'y'|z</code>" in table
    assert text("mn04_as_mAP_432.pt, a-b (c)") == "mn04_as_mAP_432.pt, a-b (c)", "names stay readable"


def nasty_board(folder: Path) -> Leaderboard:
    publish(ResultStore.open(str(folder)), RECIPES[2], Side(), seeds=[0, 1])
    board = build(folder)
    for table in board.boards[0].tables:
        for entry in table.entries:
            entry.model.label = entry.objective.label = entry.pretraining = NASTY
            entry.cost.device = "=HYPERLINK(A1)"
            assert entry.numbers is not None and entry.numbers.score.low is not None
            entry.numbers.score.low = -4.0
    board.boards[0].warnings.append(NASTY)
    return board.model_copy(update={"problems": [Problem(result=NASTY, what=NASTY)]})


def test_the_board_for_notes_and_for_spreadsheets(tmp_path: Path) -> None:
    board = nasty_board(tmp_path)
    markdown = to_markdown(board)
    assert harmless(markdown) and rendered(markdown).count("<tbody>") == 2
    rows = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert len(rows) == 2 and table_of(board.boards[0]).entries
    assert all(one["device"] == "'=HYPERLINK(A1)" and float(one["score_low"]) == -4.0 for one in rows)
    assert all(one["model"] == NASTY for one in rows)


def test_a_model_card_and_a_night() -> None:
    told = a_card(name=NASTY, model=NASTY, dataset=NASTY, classes=[NASTY, "b"], licence=NASTY, git_commit=NASTY)
    assert harmless(card_page(told))
    standing = Standing(board=NASTY, protocol="last", label=NASTY, rank=None, score=None, note=NASTY)
    after = Snapshot(
        when="2026-01-02T00:00:00+00:00",
        entries={"a": standing},
        champions={NASTY: "1"},
        checked={NASTY: Checked(passed=False, detail=NASTY)},
        failed={NASTY: NASTY},
        problems={NASTY: NASTY},
    )
    assert harmless(night_page(compare(None, after), [NASTY]))
