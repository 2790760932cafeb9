"""Cells of the CSV files that people open in a spreadsheet: text stays text, and is not taken for a formula there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: Any) -> Any:
    """A value for `csv.writer`: text that a spreadsheet would run as a formula gets an apostrophe before it.

    This is what OWASP advises against CSV injection. Numbers stay as they are, negative ones too, also where they are
    text already.
    """
    if isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def cells(values: Iterable[Any]) -> list[Any]:
    """A row of them."""
    return [cell(value) for value in values]
