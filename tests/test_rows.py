"""Each row of docs/specification.md has a test that is marked with it, and what the rows name exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from workers.config import ExperimentConfig
from workers.config.part_classes import PartClasses

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/specification.md").read_text()
ROWS = re.findall(r"^\| ([A-Z]\d+) \|", PAGE, re.MULTILINE)
PARTS = ("feature", "model", "objective", "augment", "optim", "training")


class Marked(NamedTuple):
    """A function or class with a `spec` marker.

    Attributes:
        where: its file and name.
        is_test: whether pytest collects it by its name.
        rows: the arguments of the marker.
    """

    where: str
    is_test: bool
    rows: list[Any]


@cache
def marked() -> tuple[Marked, ...]:
    """Everything in tests/ that is marked, read from the source without an import of it."""
    return tuple(_marked())


def _marked() -> Iterator[Marked]:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for decorator in node.decorator_list:
                    call = decorator.func if isinstance(decorator, ast.Call) else decorator
                    if ast.unparse(call) == "pytest.mark.spec":
                        arguments = decorator.args if isinstance(decorator, ast.Call) else []
                        where, is_test = f"{path.relative_to(ROOT)}::{node.name}", node.name.lower().startswith("test")
                        yield Marked(where, is_test, [ast.literal_eval(argument) for argument in arguments])


def test_every_row_stands_in_the_specification_once() -> None:
    assert len(ROWS) > 100
    assert [row for row, count in Counter(ROWS).items() if count > 1] == []


@pytest.mark.slow
def test_every_row_has_a_test_that_is_marked_with_it() -> None:
    held = {row for one in marked() if one.is_test for row in one.rows}
    assert sorted(set(ROWS) - held) == []


@pytest.mark.slow
def test_every_marker_names_rows_of_the_specification() -> None:
    assert len(marked()) > 100
    assert [one.where for one in marked() if not one.rows] == [], "markers without a row"
    assert [(one.where, row) for one in marked() for row in one.rows if row not in ROWS] == []


def test_settings_that_the_specification_names_exist() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(PARTS)})\.\w+)", PAGE))
    assert len(named) > 40
    assert sorted(setting for setting in named if not is_setting(setting)) == []


@pytest.mark.parametrize("wrong", ["model.pos_embed", "optim.tau", "nothing.at_all"])
def test_a_wrong_setting_is_found(wrong: str) -> None:
    assert not is_setting(wrong)


def is_setting(path: str) -> bool:
    part, _, key = path.partition(".")
    field = ExperimentConfig.model_fields.get(part)
    return field is not None and any(key in model.model_fields for model in models_of(field.annotation, field.metadata))


def models_of(annotation: Any, metadata: Iterable[Any] = ()) -> Iterator[Any]:
    """The model of a field, those of a union, or all classes that a part may have."""
    for classes in (one for one in metadata if isinstance(one, PartClasses)):
        yield from classes.own.values()
    if hasattr(annotation, "model_fields"):
        yield annotation
    for member in get_args(annotation):
        yield from models_of(member)
