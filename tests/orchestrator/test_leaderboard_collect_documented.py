"""Every field and column of the board is documented, and what is documented is there."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from pydantic import BaseModel

from orchestrator.leaderboard import schema, tabular
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema_tables import BEGIN, filled
from tests.support.leaderboard_results import realistic

DOCS = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def kinds() -> list[type[BaseModel]]:
    found = [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, schema.Item)]
    return [kind for kind in found if kind is not schema.Item]


def test_every_field_stands_in_the_docs_with_its_meaning():
    text = DOCS.read_text(encoding="utf-8").partition(BEGIN)[2]
    for kind in kinds():
        section = text.partition(f"**{kind.__name__}**: ")[2].partition("\n**")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.+) \|$", section, re.MULTILINE))
        assert set(rows) == {field.alias or name for name, field in kind.model_fields.items()}, kind.__name__


def test_the_docs_tables_are_those_of_the_schema():
    text = DOCS.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m orchestrator.leaderboard.schema_tables docs/leaderboard.md"


def test_every_column_of_the_csv_stands_in_the_docs():
    section = DOCS.read_text(encoding="utf-8").partition("## leaderboard.csv")[2].partition("\n## ")[0]
    named = [name for line in section.splitlines() if line.startswith("| `") for name in
             re.findall(r"`(\w+)`", line.split("|")[1])]  # fmt: skip
    assert sorted(named) == sorted(tabular.COLUMNS)


def test_the_csv_says_what_the_document_says(tmp_path: Path):
    built = build_board(realistic(tmp_path), resamples=500)
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(tabular.to_csv(built)))}
    entries = [entry for board in built.boards for table in board.tables for entry in table.entries]
    assert set(rows) == {entry.id for entry in entries}
    for entry in entries:
        row = rows[entry.id]
        assert (row["rank"], row["rank_low"], row["rank_high"]) == tuple(
            str(value) for value in (entry.rank, entry.rank_low, entry.rank_high)
        )
        assert (row["group"], row["tied_with"]) == (str(entry.group), entry.tied_with or "")
        assert row["difference"] == (f"{entry.difference.mean:.4f}" if entry.difference else "")
        assert row["ece"] == f"{entry.numbers.ece.mean:.4f}"
        assert row["training_minutes"] == f"{entry.cost.train_minutes:.4f}"
        assert (row["kind"], row["members"], row["gpu_hours"]) == ("model", "", "")


def test_the_markdown_shows_ranks_with_their_interval_and_ties(tmp_path: Path):
    built = build_board(realistic(tmp_path), resamples=500)
    text = tabular.to_markdown(built)
    for table in built.boards[0].tables:
        for entry in table.entries:
            group = f"{entry.group}{'=' if entry.tied_with else ''}"
            assert f"| {entry.rank} ({entry.rank_low} to {entry.rank_high}) | {group} | {entry.model.label}" in text
