"""What a board, its tables and their columns are called, and what guessing would reach there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.metrics import LABELS, SPRSOUND, Metric
from orchestrator.leaderboard.schema import Data, Entry, Leaderboard

PROTOCOL_NAMES = {
    "validation": "Epoch chosen on held-out patients",
    "last": "Last epoch",
    "test_best": "Best epoch on the test side",
}
PROTOCOL_NOTES = {
    "validation": "Patients of the training side were held out to choose the epoch; the test side was not asked.",
    "last": "No epoch was chosen: the weights after the last one count.",
    "test_best": "The papers' habit: the epoch was chosen on the test side, which flatters the Score by "
    "about 2 points. Here to be read beside such papers, never ranked with the tables above.",
}


def title(data: Data) -> str:
    """A board's heading."""
    return f"{data.dataset} · {data.task} · {data.split}"


def metrics(leaderboard: Leaderboard) -> list[Metric]:
    """What the tables are ranked by, each metric once."""
    found = [table.metric for board in leaderboard.boards for table in board.tables]
    return list(dict.fromkeys([*found, *(table.metric for table in leaderboard.search)]))


def heading(metric: Metric) -> str:
    """The metric's name at the head of a column."""
    return LABELS[metric][0].upper() + LABELS[metric][1:]


def badge(entry: Entry) -> str:
    """``champion``, or the registered version; empty where the registry has no model of the entry's config."""
    if entry.registered is None:
        return ""
    return entry.registered.alias or f"v{entry.registered.version}"


@dataclass(frozen=True)
class Chance:
    """What calling every cycle by one class gets, in percent."""

    value: float
    text: str


def chance(metric: Metric, classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Chance:
    """What a guess gets on a test side.

    Args:
        metric: the table's.
        classes: their names.
        confusion: of any of its entries: the truth in rows.
    """
    cycles = [sum(row) for row in confusion]
    if metric == "accuracy":
        most = max(range(len(cycles)), key=cycles.__getitem__)
        return Chance(100.0 * cycles[most] / sum(cycles), f"calling every cycle {classes[most]}")
    if metric == "uar":
        return Chance(100.0 / sum(count > 0 for count in cycles), "calling every cycle by one class")
    return Chance(25.0 if metric in SPRSOUND else 50.0, "calling every cycle normal")
