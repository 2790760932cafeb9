"""Geometry of the page's figures: where each mark lies, in percent of its axis. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.leaderboard.labels import differs
from orchestrator.leaderboard.schema import Curve, Entry

FAMILIES = ("ast", "crnn", "cnn6", "cnn10", "mn")  # each has its colour in style.css
CHANCE = 50.0  # Score of calling every cycle normal
FOREST_ROWS = 12
LABEL_WIDTH, LABEL_HEIGHT = 24.0, 7.0  # room that a label takes in the scatter plot, percent


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low, high: its ends, in the values' unit.
        ticks: (percent, text).
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Percent of the axis' length."""
        return round(100.0 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Mark:
    """One entry in a figure; `low` and `high` are None without an interval."""

    id: str
    label: str
    detail: str
    colour: str
    at: float
    low: float | None
    high: float | None
    rank: int | None
    x: float = 0.0
    label_side: str = "right"


@dataclass(frozen=True)
class Forest:
    """Score with interval, an entry a row. `chance` is None where it lies off the axis."""

    axis: Axis
    marks: tuple[Mark, ...]
    left_out: int
    chance: float | None
    leader_low: float | None


@dataclass(frozen=True)
class Scatter:
    """Score against parameters, the latter on a logarithmic axis."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    families: tuple[tuple[str, str], ...]
    chance: float | None


@dataclass(frozen=True)
class Line:
    """One training's curve as points of a polyline in a box of 100 x 100, and its chosen epoch."""

    seed: int
    fold: int
    points: str
    chosen: tuple[float, float] | None


@dataclass(frozen=True)
class Curves:
    epochs: int
    y: Axis
    lines: tuple[Line, ...]


def colour(family: str) -> str:
    """Class of a model family's colour."""
    return f"f-{family}" if family in FAMILIES else "f-other"


def linear_axis(values: Sequence[float], ticks: int = 5) -> Axis:
    """An axis with round ends around the values."""
    low, high = min(values), max(values)
    if high - low < 1.0:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    axis = Axis(first * step, last * step, ())
    marks = tuple((axis.place(i * step), f"{i * step:g}") for i in range(first, last + 1))
    return Axis(axis.low, axis.high, marks)


def log_axis(values: Sequence[float]) -> Axis:
    """Log10 of counts, with a tick at each 1, 2 and 5 of a decade, thinned to at most six."""
    low, high = math.log10(min(values)) - 0.12, math.log10(max(values)) + 0.12
    axis = Axis(low, high, ())
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [float(m * 10**d) for d in decades for m in steps if low <= math.log10(m * 10**d) <= high]
        if len(found) <= 6:
            break
    return Axis(low, high, tuple((axis.place(math.log10(count)), short_count(count)) for count in found))


def short_count(count: float) -> str:
    """``993485`` as ``993 k``, ``86000000`` as ``86 M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit * 0.9995:
            value = count / limit
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    return f"{count:.0f}"


def forest(entries: Sequence[Entry]) -> Forest | None:
    """Score and interval of the leading entries; None if there are fewer than two."""
    shown = [entry for entry in entries if entry.numbers][:FOREST_ROWS]
    if len(shown) < 2:
        return None
    axis = linear_axis([CHANCE, *_extent(shown)])
    leader = shown[0].numbers
    return Forest(
        axis=axis,
        marks=tuple(_mark(entry, axis) for entry in shown),
        left_out=len(entries) - len(shown),
        chance=axis.place(CHANCE),
        leader_low=axis.place(leader.score.low) if leader and leader.score.low is not None else None,
    )


def scatter(entries: Sequence[Entry]) -> Scatter | None:
    """Score against parameters; None if all models are of one size."""
    shown = [entry for entry in entries if entry.numbers and entry.model.parameters > 0]
    if len({entry.model.parameters for entry in shown}) < 2:
        return None
    x, y = log_axis([entry.model.parameters for entry in shown]), linear_axis(_extent(shown))
    marks: list[Mark] = []
    for entry in shown:
        mark = _mark(entry, y, x.place(math.log10(entry.model.parameters)))
        marks.append(_labelled(mark, marks))
    families = {colour(entry.model.family): entry.model.label.split(" ")[0].rstrip(",") for entry in reversed(shown)}
    return Scatter(
        x=x,
        y=y,
        marks=tuple(marks),
        families=tuple(sorted(families.items())),
        chance=y.place(CHANCE) if y.low <= CHANCE <= y.high else None,
    )


def curves(found: Sequence[Curve]) -> Curves | None:
    """Validation Score by epoch; None where fewer than two epochs were recorded."""
    epochs = max((len(curve.validation) for curve in found), default=0)
    values = [value for curve in found for value in curve.validation if value is not None]
    if epochs < 2 or not values:
        return None
    x, y = Axis(1, epochs, ()), linear_axis(values, ticks=3)
    lines = []
    for curve in found:
        points = [
            (x.place(epoch), 100.0 - y.place(value))
            for epoch, value in enumerate(curve.validation, start=1)
            if value is not None
        ]
        at = curve.validation[curve.chosen - 1] if 0 < curve.chosen <= len(curve.validation) else None
        chosen = None if at is None else (x.place(curve.chosen), round(100.0 - y.place(at), 2))
        text = " ".join(f"{left:.4g},{top:.4g}" for left, top in points)
        lines.append(Line(curve.seed, curve.fold, text, chosen))
    return Curves(epochs, y, tuple(lines))


def _extent(entries: Sequence[Entry]) -> list[float]:
    """All ends of intervals, and the Scores."""
    found = [entry.numbers.score for entry in entries if entry.numbers]
    return [end for score in found for end in (score.mean, score.low, score.high) if end is not None]


def _mark(entry: Entry, axis: Axis, x: float = 0.0) -> Mark:
    assert entry.numbers is not None
    score = entry.numbers.score
    return Mark(
        id=entry.id,
        label=entry.model.label,
        detail=", ".join([entry.objective.label, *differs(entry, limit=1)]),
        colour=colour(entry.model.family),
        at=axis.place(score.mean),
        low=None if score.low is None else axis.place(score.low),
        high=None if score.high is None else axis.place(score.high),
        rank=entry.rank,
        x=x,
    )


def _labelled(mark: Mark, placed: Sequence[Mark]) -> Mark:
    """Put the label where there is room beside the marks placed before; leave it out where there is none."""
    sides = ("left", "right") if mark.x > 100 - LABEL_WIDTH else ("right", "left")
    for side in sides:
        if (side == "left" and mark.x < LABEL_WIDTH) or (side == "right" and mark.x > 100 - LABEL_WIDTH):
            continue
        left = mark.x if side == "right" else mark.x - LABEL_WIDTH
        clear = all(
            abs(other.at - mark.at) > LABEL_HEIGHT
            or not (_span(other)[0] < left + LABEL_WIDTH and left < _span(other)[1])
            for other in placed
        )
        if clear:
            return Mark(**{**vars(mark), "label_side": side})
    return Mark(**{**vars(mark), "label_side": "none"})


def _span(mark: Mark) -> tuple[float, float]:
    """Left and right end of a mark with its label, percent."""
    return {
        "right": (mark.x - 2, mark.x + LABEL_WIDTH),
        "left": (mark.x - LABEL_WIDTH, mark.x + 2),
        "none": (mark.x - 2, mark.x + 2),
    }[mark.label_side]
