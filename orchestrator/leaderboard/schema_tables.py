"""The fields of the board's documents as Markdown tables, made of `schema.py` so that they cannot part from it.

usage: python -m orchestrator.leaderboard.schema_tables docs/leaderboard.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from orchestrator.leaderboard.schema import BoardDetail, EntryDetail, Leaderboard

BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"
DOCUMENTS: dict[str, type[BaseModel]] = {
    "leaderboard.json": Leaderboard,
    "entries/<id>.json": EntryDetail,
    "boards/<id>.json": BoardDetail,
}


def to_markdown() -> str:
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
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {_type(field.annotation)} | {meaning} |"


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
    """A page with its tables made anew between the two marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{to_markdown()}\n{END}", text)


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
