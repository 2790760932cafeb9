"""What a column of the leaderboard is, and how each kind of table shows it. `columns.py` lists them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.leaderboard.schema import Board, Entry, Numbers, Table

Medium = Literal["page", "markdown", "terminal"]
Value = str | int | float | bool | None
Words = str | Callable[[Table], str]
"""Text, or a function of the table that gives it."""


@dataclass(frozen=True)
class EntryRow:
    """An entry, and where it is."""

    board: Board
    table: Table
    entry: Entry

    @property
    def numbers(self) -> Numbers:
        """The entry's metrics. Tables for people show only entries that have them."""
        assert self.entry.numbers is not None
        return self.entry.numbers


@dataclass(frozen=True)
class View:
    """How Markdown or the terminal shows a column.

    Attributes:
        title: at its head, in that medium's markup.
        cell: of a row, in that medium's markup.
        after: keys of columns: it follows the last of them that is shown, and without one the order of `COLUMNS`.
        number: it is aligned and sorted as one.
    """

    title: Words
    cell: Callable[[EntryRow], str]
    after: tuple[str, ...] = ()
    number: bool = True


@dataclass(frozen=True)
class PageView(View):
    """How the page shows a column; `title` is plain text, `cell` HTML.

    Attributes:
        key: its name in the script and in linked views, where it is not the column's own.
        hint: at its head.
        style: class of its cells; empty for none.
        head_style: further class of its head.
        heads_rows: its cells are the headings of their rows.
        first: order that the first click on its head gives.
        sort: what it is sorted by, where that is not the column's value.
    """

    key: str = ""
    hint: Words = ""
    style: str = "n"
    head_style: str = ""
    heads_rows: bool = False
    first: Literal["ascending", "descending"] | None = None
    sort: Callable[[EntryRow], Value] | None = None

    @property
    def kind(self) -> str:
        """How its values are sorted and aligned."""
        return "number" if self.number else "text"

    @property
    def tags(self) -> tuple[str, str]:
        """The tags before and after the content of its cells."""
        style = f' class="{self.style}"' if self.style else ""
        return (f'<th scope="row"{style}>', "</th>") if self.heads_rows else (f"<td{style}>", "</td>")


@dataclass(frozen=True)
class Column:
    """One fact of an entry.

    Attributes:
        key: its header in the CSV file.
        meaning: for the docs.
        value: its value as CSV has it; None where it is not defined.
        page, markdown, terminal: how these show it; None where they do not.
        compare: its name on the comparison page, which shows the value of the page's cell; empty where it does not.
        applies: to which tables for people; CSV has every column.
        csv: whether CSV has it.
    """

    key: str
    meaning: str
    value: Callable[[EntryRow], Value]
    page: PageView | None = None
    markdown: View | None = None
    terminal: View | None = None
    compare: Words = ""
    applies: Callable[[Table], bool] = lambda table: True
    csv: bool = True

    @property
    def page_key(self) -> str:
        """Its name in the page's script."""
        return (self.page.key if self.page else "") or self.key

    def sort_value(self, row: EntryRow) -> Value:
        """What the page sorts it by."""
        return (self.page.sort if self.page and self.page.sort else self.value)(row)


@dataclass(frozen=True)
class PerClass:
    """A column for each class of the board.

    Attributes:
        of: the column of a class number and its name.
    """

    of: Callable[[int, str], Column]


def words(of: Words, table: Table) -> str:
    """Text that may depend on the table."""
    return of if isinstance(of, str) else of(table)
