"""The medical table of the AI CUP 2023 voice contest: its columns, its code book, and 44 numbers of a row.

Specified in docs/specification.md, 4.1.

The categories are those of the code book, fixed before any list is read: every list gives the same 44 columns in the
same order, whatever stands in it. One column a category that happens to occur, as in the source system, would not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feature_store.datasets.text_tables import number_of, read_rows
from feature_store.errors import UserError

ID, LABEL = "ID", "Disease category"
ONSET = "Onset of dysphonia "  # the contest's lists have the blank at its end
SEX, AGE, PACKS, HANDICAP = "Sex", "Age", "PPD", "Voice handicap index - 10"
NUMBERS = (
    SEX, AGE, "Narrow pitch range", "Decreased volume", "Fatigue", "Dryness", "Lumping", "heartburn", "Choking",
    "Eye dryness", "PND", PACKS, "Drinking", "Diabetes", "Hypertension", "CAD", "Head and Neck Cancer", "Head injury",
    "CVA", HANDICAP,
)  # fmt: skip
"""Columns that are one number each, in the order of the lists."""
CATEGORIES: dict[str, range] = {
    "Smoking": range(4),
    "frequency": range(4),
    ONSET: range(1, 6),
    "Noise at work": range(1, 4),
    "Diurnal pattern": range(1, 5),
    "Occupational vocal demand": range(1, 5),
}
"""Columns that are one number a category, behind the others, in the order of the source system."""
NAMES = (*NUMBERS, *(f"{column.strip()}={code}" for column, codes in CATEGORIES.items() for code in codes))
SHIFT, SCALE = {SEX: 1.0}, {AGE: 50.0, HANDICAP: 40.0}
MAY_LACK = frozenset({PACKS, HANDICAP})  # the contest leaves them empty: 0, and nothing to report
ORDINARY_ID = re.compile(r"^\w[\w\-]*$")


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
        name: the clip's ID.
        code: its class as the list has it; empty in the contest's own lists.
        numbers: ``[44]``, all finite.
        doubts: what had to be filled in, in words.
        line: in the file, the header being line 1.
    """

    name: str
    code: str
    numbers: tuple[float, ...]
    doubts: tuple[str, ...]
    line: int


def read_list(path: Path, *, labelled: bool) -> list[Row]:
    """The rows of a list, in order. Blanks around a column's name do not matter.

    Raises:
        UserError: there is no such list, it is no CSV, a column is missing, it has no row, or an ID is no file name.
    """
    columns, lines = read_rows(path)
    fields = set(columns)
    wanted = [ID, *NUMBERS, *CATEGORIES, *([LABEL] if labelled else [])]
    if missing := [name for name in wanted if name.strip() not in fields]:
        hint = f"the list has {', '.join(sorted(fields)) or 'no header'}"
        raise UserError(f"has no column '{missing[0]}' ({len(missing)} missing)", where=str(path), hint=hint)
    if not lines:
        raise UserError("it lists no clip", where=str(path), hint="copy it again")
    rows = []
    for number, cells in lines:
        if not ORDINARY_ID.match(cells[ID]):
            raise UserError(f"'{cells[ID]}' is no clip's ID", where=f"{path}:{number}", hint="correct the row")
        numbers, doubts = encode(cells)
        rows.append(Row(cells[ID], cells[LABEL] if labelled else "", numbers, doubts, number))
    return rows


def encode(cells: Mapping[str, str]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """44 numbers of a row, named by `NAMES`, and what was doubtful in it.

    Sex is 0 or 1, age in units of 50 years, the handicap index of 40. A missing number is 0. A category that is missing
    or not in the code book is none of those known: all its columns are 0.

    Args:
        cells: text by column, the columns' names stripped.
    """
    values, doubts = [], []
    for column in NUMBERS:
        text = cells[column]
        number = _number(text)
        if number is None:
            values.append(0.0)
            if text or column not in MAY_LACK:
                doubts.append(f"'{column}' is '{text}': taken as 0")
        else:
            values.append((number - SHIFT.get(column, 0.0)) / SCALE.get(column, 1.0))
    for column, codes in CATEGORIES.items():
        text = cells[column.strip()]
        number = _number(text)
        if number not in codes:
            doubts.append(
                f"'{column.strip()}' is '{text}', which is no code of {codes[0]} to {codes[-1]}: taken as none"
            )
        values += [float(number == code) for code in codes]
    return tuple(values), tuple(doubts)


def _number(text: str) -> float | None:
    try:
        number = number_of(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
