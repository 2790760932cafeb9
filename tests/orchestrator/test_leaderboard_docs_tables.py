"""docs/leaderboard.md holds every field of the documents and every column of the CSV file, made from the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.analysis import items
from orchestrator.leaderboard import exports, schema
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.docs_tables import filled, marks
from workers.results import ResultStore

DOCS = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def kinds() -> list[type[BaseModel]]:
    found = {**vars(items), **vars(schema)}.values()
    return [
        kind for kind in found if isinstance(kind, type) and issubclass(kind, items.Item) and kind is not items.Item
    ]


def test_every_field_stands_in_the_docs_with_its_meaning():
    text = DOCS.read_text(encoding="utf-8").partition(marks("fields")[0])[2]
    for kind in kinds():
        section = text.partition(f"**{kind.__name__}**: ")[2].partition("\n**")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.+) \|$", section, re.MULTILINE))
        assert set(rows) == {field.alias or name for name, field in kind.model_fields.items()}, kind.__name__


def test_the_docs_tables_are_those_of_the_code():
    text = DOCS.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m orchestrator.leaderboard.docs_tables docs/leaderboard.md"


def test_every_column_of_the_csv_stands_in_the_docs_with_its_meaning(tmp_path: Path):
    section = DOCS.read_text(encoding="utf-8").partition("## leaderboard.csv")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \| .*? \| (.+) \|$", section, re.MULTILINE)
    header = exports.to_csv(build_board(ResultStore.open(str(tmp_path)), resamples=50)).splitlines()[0]
    assert [name for name, _ in named] == header.split(",")
    assert all(meaning.strip() for _, meaning in named)


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="columns: begin"):
        filled("# The leaderboard")
