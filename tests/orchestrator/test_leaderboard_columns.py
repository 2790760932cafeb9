"""One list makes every table of entries: a column added there is in all of them, and no table has one of its own."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.leaderboard import show
from orchestrator.leaderboard import columns, docs_tables, exports
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.column_types import Column, EntryRow, PageView, View
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site import pages
from tests.support.leaderboard_results import LEANING, PHASE, other_metrics, publish, realistic
from workers.results import ResultStore

pytestmark = pytest.mark.slow


def weight(row: EntryRow) -> float:
    """Made up: another number for every entry."""
    return float(int(row.entry.id[:4], 16))


DUMMY = columns.measure("weight", "Wt", "how heavy it is", weight, title="Weight", digits=3, applies=lambda table: True)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    folder = tmp_path_factory.mktemp("results")
    other_metrics(folder)
    return build_board(realistic(folder), resamples=50)


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> Column:
    """A further column, added in the one place."""
    place = next(i for i, one in enumerate(columns.COLUMNS) if isinstance(one, Column) and one.key == "seeds")
    monkeypatch.setattr(columns, "COLUMNS", [*columns.COLUMNS[:place], DUMMY, *columns.COLUMNS[place:]])
    return DUMMY


def expected(board: Leaderboard, *, honest: bool = False) -> list[str]:
    """The dummy's text of every ranked entry, in the order of the tables."""
    return [
        f"{weight(EntryRow(b, table, entry)):.3f}"
        for b in board.boards
        for table in b.tables
        for entry in table.entries
        if table.honest or not honest
    ]


def test_a_further_column_is_on_the_page(board: Leaderboard, dummy: Column):
    page = pages.index_page(board)
    tables = sum(len(b.tables) for b in board.boards)
    assert len(re.findall(r'data-key="weight" data-kind="number".*?title="how heavy it is">Wt<', page)) == tables
    cells = re.findall(r'<td class="n">(\d+\.\d{3})</td>', page)
    assert cells == expected(board)


def test_a_further_column_is_in_the_pages_script(board: Leaderboard, dummy: Column):
    text = exports.board_script(board)
    found: list[str] = []
    for table in json.loads(text.removeprefix("lungtune.take(").removesuffix(");\n"))["tables"]:
        (at,) = [i for i, column in enumerate(table["columns"]) if column["key"] == "weight"]
        assert table["columns"][at]["compare"] == "Weight"
        assert [f"{values[at]:.3f}" for _, values, _ in table["rows"]] == [cells[at] for _, _, cells in table["rows"]]
        found += [cells[at] for _, _, cells in table["rows"]]
    assert found == expected(board)


def test_a_further_column_is_in_the_csv(board: Leaderboard, dummy: Column):
    rows = list(csv.DictReader(io.StringIO(exports.to_csv(board))))
    assert [f"{float(row['weight']):.3f}" for row in rows if row["rank"]] == expected(board)
    header = list(rows[0])
    assert header[header.index("weight") + 1] == "seeds"


def test_a_further_column_is_in_the_markdown(board: Leaderboard, dummy: Column):
    lines = exports.to_markdown(board).splitlines()
    found: list[str] = []
    for number, line in enumerate(lines):
        if line.startswith("| Rank |"):
            at = line.split(" | ").index("Wt")
            rows = lines[number + 2 : lines.index("", number)]
            found += [re.split(r"(?<!\\) \| ", row)[at] for row in rows]
    assert found == expected(board)


def test_a_further_column_is_in_the_terminal(board: Leaderboard, dummy: Column, capsys: pytest.CaptureFixture[str]):
    show(board)
    printed = capsys.readouterr().out
    assert re.findall(r"\d+\.\d{3}(?=\D)", printed) == expected(board, honest=True)


def test_a_further_column_is_in_the_docs(dummy: Column):
    assert "| `weight` | page, Markdown, terminal, comparison | how heavy it is |" in docs_tables.columns_table()


def test_a_column_may_be_of_some_tables_and_media_alone(board: Leaderboard, monkeypatch: pytest.MonkeyPatch):
    some = Column(
        "kind_of",
        "made up",
        lambda row: "x",
        page=PageView("Kind", lambda row: "<i>x</i>", after=("score",), number=False),
        applies=lambda table: table.metric == "uar",
        csv=False,
    )
    monkeypatch.setattr(columns, "COLUMNS", [*columns.COLUMNS, some])
    for b in board.boards:
        for table in b.tables:
            keys = [column.key for column in columns.shown_columns("page", b, table)]
            assert ("kind_of" in keys) is (table.metric == "uar")
            if table.metric == "uar":
                assert keys[keys.index("score") + 1] in ("kind_of", "pooled_score")
                assert keys.index("kind_of") < keys.index("accuracy")
    assert exports.to_csv(board).splitlines()[0].endswith(",note")
    assert pages.index_page(board).count('<td class="n"><i>x</i></td>') == sum(
        len(table.entries) for b in board.boards for table in b.tables if table.metric == "uar"
    )
    assert not any("Kind" in line for line in exports.to_markdown(board).splitlines() if line.startswith("| Rank"))


def test_keys_are_unique_and_every_column_says_what_it_means(board: Leaderboard):
    keys = [column.key for column in columns.csv_columns()]
    assert len(keys) == len(set(keys))
    for b in board.boards:
        for table in b.tables:
            shown = columns.shown_columns("page", b, table)
            assert len({column.page_key for column in shown}) == len(shown)
            assert all(column.meaning for column in shown)


def test_text_of_a_column_is_no_markup_anywhere(tmp_path: Path):
    """A class's name is at the head of a column of its own: in HTML, in Markdown and in a terminal."""
    evil = "<b>|[red]x"
    store = ResultStore.open(str(tmp_path))
    publish(store, LEANING[0], replace(PHASE, classes=(evil, "exhale")), seeds=[0])
    built = build_board(store, resamples=50)
    (b,) = built.boards
    assert "&lt;b&gt;|[red]x" in pages.index_page(built)
    assert evil not in pages.index_page(built)
    view = columns.shown_columns("markdown", b, b.tables[0])[7].markdown
    assert isinstance(view, View)
    assert view.title == "&lt;b>\\|\\[red\\]x"
