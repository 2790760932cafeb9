"""The tables of docs/leaderboard.md: the fields of `schema.py` and the columns of `columns.py`, made from the code.

usage: python -m orchestrator.leaderboard.docs_tables docs/leaderboard.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from orchestrator.leaderboard.column_types import Column
from orchestrator.leaderboard.columns import csv_columns
from orchestrator.leaderboard.schema import BoardDetail, EntryDetail, Leaderboard

DOCUMENTS: dict[str, type[BaseModel]] = {
    "leaderboard.json": Leaderboard,
    "entries/<id>.json": EntryDetail,
    "boards/<id>.json": BoardDetail,
}


def columns_table() -> str:
    """The columns of the CSV file, where else each is shown, and what it means."""
    lines = ["| column | also shown in | meaning |", "| --- | --- | --- |"]
    for column in csv_columns():
        lines.append(f"| `{column.key}` | {', '.join(_shown_in(column))} | {_cell(column.meaning)} |")
    return "\n".join(lines)


def _shown_in(column: Column) -> Iterator[str]:
    shown = {"page": column.page, "Markdown": column.markdown, "terminal": column.terminal}
    yield from (name for name, view in shown.items() if view)
    if column.compare:
        yield "comparison"


def fields_tables() -> str:
    """A table for every kind of object, each once, where it is met first."""
    met: list[type[BaseModel]] = []
    parts: list[str] = []
    for file, document in DOCUMENTS.items():
        parts += [f"### `{file}`", ""]
        for model in _models(document):
            if model not in met:
                met.append(model)
                parts += [*_table(model), ""]
    return "\n".join(parts).rstrip()


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and those that its fields hold, in the order of the fields."""
    yield model
    for field in model.model_fields.values():
        for inner in _inside(field.annotation):
            yield from _models(inner)


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield f"**{model.__name__}**: {(model.__doc__ or '').strip()}"
    yield from ("", "| field | type | meaning |", "| --- | --- | --- |")
    for name, field in model.model_fields.items():
        yield f"| `{field.alias or name}` | {_type(field.annotation)} | {_cell(field.description or '')} |"


def _cell(content: str) -> str:
    return content.replace("|", "\\|")


def _type(annotation: Any) -> str:
    """A field's type as a reader of JSON calls it."""
    if annotation is type(None):
        return "null"
    arguments = get_args(annotation)
    if not arguments:
        named = {str: "string", int: "whole number", float: "number", bool: "boolean", Any: "any"}
        return named.get(annotation) or annotation.__name__
    kind = getattr(annotation, "__origin__", None)
    if kind is list:
        return f"list of {_type(arguments[0])}"
    if kind is dict:
        return f"object of {_type(arguments[1])}"
    if all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    return " or ".join(_type(argument) for argument in arguments)


def filled(text: str) -> str:
    """A page with its tables made again, each between its two marks."""
    for name, content in (("columns", columns_table()), ("fields", fields_tables())):
        begin, end = marks(name)
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no {begin} ... {end}")
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


def marks(name: str) -> tuple[str, str]:
    """The lines between which a table is written: of `columns` or of `fields`."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
