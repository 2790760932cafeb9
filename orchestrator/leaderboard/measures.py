"""What a table shows for its metric: the name of the column, the numbers beside it, and what guessing would get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feature_store.metrics import LABELS, MEANINGS, SPRSOUND, Metric, has_rates
from orchestrator.leaderboard.schema import Entry, Estimate, Leaderboard, Numbers


def metrics(leaderboard: Leaderboard) -> list[Metric]:
    """What the tables are ranked by, each metric once."""
    found = [table.metric for board in leaderboard.boards for table in board.tables]
    return list(dict.fromkeys([*found, *(table.metric for table in leaderboard.search)]))


def heading(metric: Metric) -> str:
    """The metric's name at the head of a column."""
    return LABELS[metric][0].upper() + LABELS[metric][1:]


@dataclass(frozen=True)
class Measure:
    """A number that stands beside the one that is ranked.

    Attributes:
        key: by which a script knows it; equal keys, equal numbers.
        name, title: its name in a column, and where there is room.
        hint: what it is.
        digits: after the point.
        of: its value for a ranked entry; None where it is not defined.
    """

    key: str
    name: str
    title: str
    hint: str
    of: Callable[[Entry], float | None]
    digits: int = 1

    def text(self, entry: Entry) -> str:
        """Its value for people."""
        value = self.of(entry)
        return "–" if value is None else f"{value:.{self.digits}f}"


def measures(metric: Metric, classes: Sequence[str]) -> tuple[Measure, ...]:
    """The columns beside a metric's own: Sp and Se where it is made of them, else the recall of every class."""
    if metric == "icbhi4":
        return *RATES, ICBHI2
    if has_rates(metric):
        return RATES
    return (
        UAR if metric == "accuracy" else ACCURACY,
        AUROC,
        *(_recall(index, name) for index, name in enumerate(classes)),
    )


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


def mean_of(estimate: Estimate | None) -> float | None:
    """An estimate's mean; None where it is not defined."""
    return estimate.mean if estimate else None


def _mean(of: Callable[[Numbers], Estimate | None]) -> Callable[[Entry], float | None]:
    return lambda entry: mean_of(of(entry.numbers)) if entry.numbers else None


def _recall(index: int, name: str) -> Measure:
    return Measure(f"recall{index}", name, f"Recall of {name}", f"recall of {name}", lambda entry: entry.recall[index])


RATES = (
    Measure("specificity", "Sp", "Specificity", "specificity", _mean(lambda numbers: numbers.specificity)),
    Measure("sensitivity", "Se", "Sensitivity", "sensitivity", _mean(lambda numbers: numbers.sensitivity)),
)
ICBHI2 = Measure(
    "icbhi2",
    "icbhi2",
    "icbhi2 Score",
    "Score if any abnormal class counts as a hit",
    _mean(lambda numbers: numbers.icbhi2_score),
)
ACCURACY = Measure("accuracy", "Accuracy", "Accuracy", MEANINGS["accuracy"], _mean(lambda numbers: numbers.accuracy))
UAR = Measure("uar", "UAR", "UAR", MEANINGS["uar"], _mean(lambda numbers: numbers.uar))
AUROC = Measure(
    "auroc",
    "AUROC",
    "AUROC",
    "one against the rest, averaged over classes",
    _mean(lambda numbers: numbers.auroc),
    digits=2,
)
