"""What a corpus knows of a recording beside its sound, for a model that takes it: from a list or from a row's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from feature_store.datasets import corpus_class
from feature_store.errors import UserError


class TableRow(Protocol):
    """What a corpus' own row of a list has: recording, numbers, what is wrong in words, and its line in the file."""

    @property
    def name(self) -> str: ...
    @property
    def numbers(self) -> tuple[float, ...]: ...
    @property
    def doubts(self) -> tuple[str, ...]: ...
    @property
    def line(self) -> int: ...


@dataclass(frozen=True)
class RecordingTables:
    """The rows of a list, by the names of their recordings.

    A list that is given for a prediction is held to its code book: what a training takes as missing, with a warning,
    is refused here.
    """

    path: Path
    rows: dict[str, TableRow]

    @classmethod
    def read(cls, dataset: str, path: Path) -> RecordingTables:
        """Read a list with the columns that the corpus has.

        Raises:
            UserError: there is no such list, a column is missing, a name appears twice, or the corpus knows no table.
        """
        rows: dict[str, TableRow] = {}
        for row in _format(dataset).read_list(path, labelled=False):
            if row.name in rows:
                raise UserError(f"'{row.name}' appears twice", where=f"{path}:{row.line}", hint="keep one row of it")
            rows[row.name] = row
        return cls(path, rows)

    def of(self, recording: Path) -> tuple[float, ...]:
        """The numbers that go with a file, by its name without suffix.

        Raises:
            UserError: the list has no row of it, or a cell of the row is none of its column.
        """
        row = self.rows.get(recording.stem)
        if row is None:
            raise UserError(f"has no row in {self.path}", where=str(recording), hint=f"add one of '{recording.stem}'")
        _refuse(row.doubts, f"{self.path}:{row.line}")
        return row.numbers


def encode_cells(dataset: str, cells: Mapping[str, object], where: str) -> tuple[float, ...]:
    """The numbers of one row.

    Args:
        dataset: whose columns they are.
        cells: text or number by column; None is an empty cell.
        where: for errors.

    Raises:
        UserError: a column is missing, a cell is none of its column, or the corpus knows no table.
    """
    layout = _format(dataset)
    text = {str(column).strip(): "" if cell is None else str(cell).strip() for column, cell in cells.items()}
    wanted = [column.strip() for column in (*layout.NUMBERS, *layout.CATEGORIES)]
    if missing := [column for column in wanted if column not in text]:
        raise UserError(f"has no column '{missing[0]}' ({len(missing)} missing)", where=where)
    numbers, doubts = layout.encode(text)
    _refuse(doubts, where)
    return numbers


def _format(dataset: str) -> ModuleType:
    """A module with `read_list`, `encode`, `NUMBERS` and `CATEGORIES`, as `feature_store.datasets.aicup_table`."""
    found = corpus_class(dataset).table_format
    if found is None:
        raise UserError(f"recordings of '{dataset}' have no table", hint="its models hear sounds alone")
    return found


def _refuse(doubts: tuple[str, ...], where: str) -> None:
    if doubts:
        what, _, _ = doubts[0].rpartition(":")  # behind it stands what a training takes it for
        raise UserError(what, where=where, hint="correct the cell")
