"""Geometry of the page's figures: where each mark lies, in percent of its axis. The template draws them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from feature_store.counted import counted
from feature_store.metrics import Metric
from orchestrator.analysis.items import Reliability
from orchestrator.analysis.labels import differs
from orchestrator.leaderboard.headings import chance, heading
from orchestrator.leaderboard.schema import ChampionChange, Curve, Entry, Table

FAMILIES = ("ast", "crnn", "cnn6", "cnn10", "mn")  # each has its colour in style.css
FOREST_ROWS = 12


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
    score: float
    x: float = 0.0
    label_side: str = "none"
    front: bool = False


@dataclass(frozen=True)
class Guess:
    """A dashed line at what calling every cycle by one class gets: its place on the axis, percent, and its words."""

    at: float
    value: str
    text: str


@dataclass(frozen=True)
class Forest:
    """The metric with its interval, an entry a row."""

    axis: Axis
    marks: tuple[Mark, ...]
    left_out: int
    guess: Guess | None
    leader_low: float | None


@dataclass(frozen=True)
class Line:
    """One training's curve as points of a polyline in a box of 100 x 100, and its chosen epoch."""

    seed: int
    fold: int
    points: str
    chosen: tuple[float, float] | None


@dataclass(frozen=True)
class Curves:
    name: str
    epochs: int
    y: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Bar:
    """One bin of a reliability diagram, percent; `share` is its cycles over those of the fullest bin."""

    left: float
    width: float
    accuracy: float
    confidence: float
    share: float
    text: str


@dataclass(frozen=True)
class Calibration:
    bars: tuple[Bar, ...]
    ece: float
    mce: float


@dataclass(frozen=True)
class Step:
    """A champion, percent of both axes."""

    x: float
    at: float
    change: ChampionChange


@dataclass(frozen=True)
class History:
    """A model's champions, oldest first. Without two numbers of its metric there is nothing to draw: `y` is None."""

    changes: tuple[ChampionChange, ...]
    metric: Metric  # of the newest; a champion by another one is not drawn
    y: Axis | None
    points: tuple[Step, ...]
    lines: tuple[tuple[float, float, float, float], ...]


def colour(family: str) -> str:
    """Class of a model family's colour."""
    return f"f-{family}" if family in FAMILIES else "f-other"


def linear_axis(values: Sequence[float], ticks: int = 5, least: float = 1.0) -> Axis:
    """An axis with round ends around the values, at least `least` long."""
    low, high = min(values), max(values)
    if high - low < least:
        low, high = low - least / 2, high + least / 2
    rough = (high - low) / ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    axis = Axis(first * step, last * step, ())
    marks = tuple((axis.place(i * step), f"{i * step:g}") for i in range(first, last + 1))
    return Axis(axis.low, axis.high, marks)


def log_axis(values: Sequence[float], text: Callable[[float], str]) -> Axis:
    """Log10 of positive values, with a tick at each 1, 2 and 5 of a decade, thinned to at most six."""
    low, high = math.log10(min(values)) - 0.12, math.log10(max(values)) + 0.12
    axis = Axis(low, high, ())
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in steps if low <= math.log10(m * 10.0**d) <= high]
        if len(found) <= 6:
            break
    return Axis(low, high, tuple((axis.place(math.log10(value)), text(value)) for value in found))


def short_count(count: float) -> str:
    """``993485`` as ``993 k``, ``86000000`` as ``86 M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit * 0.9995:
            value = count / limit
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    return f"{count:.0f}"


def guess(table: Table, axis: Axis) -> Guess | None:
    """Where calling every cycle by one class lies; None where that is off the axis."""
    found = chance(table.metric, table.entries[0].classes, table.entries[0].confusion)
    if not axis.low <= found.value <= axis.high:
        return None
    return Guess(axis.place(found.value), f"{found.value:.3g}", found.text)


def forest(table: Table) -> Forest | None:
    """The metric and its interval of the leading entries; None if there are fewer than two."""
    shown = table.entries[:FOREST_ROWS]
    if len(shown) < 2:
        return None
    lowest = chance(table.metric, shown[0].classes, shown[0].confusion).value
    axis = linear_axis([lowest, *_extent(shown)])
    leader = shown[0].numbers
    return Forest(
        axis=axis,
        marks=tuple(mark_of(entry, axis) for entry in shown),
        left_out=len(table.entries) - len(shown),
        guess=guess(table, axis),
        leader_low=axis.place(leader.score.low) if leader and leader.score.low is not None else None,
    )


def curves(found: Sequence[Curve], metric: Metric) -> Curves | None:
    """The metric of the held-out patients by epoch; None where fewer than two epochs were recorded."""
    name = f"{heading(metric)} of the held-out patients by epoch"
    return _curves(name, [(curve, curve.validation) for curve in found])


def losses(found: Sequence[Curve]) -> Curves | None:
    """Training loss by epoch; None where fewer than two epochs were recorded."""
    return _curves("Training loss by epoch", [(curve, curve.train_loss) for curve in found])


def _curves(name: str, found: Sequence[tuple[Curve, Sequence[float | None]]]) -> Curves | None:
    epochs = max((len(series) for _, series in found), default=0)
    values = [value for _, series in found for value in series if value is not None]
    if epochs < 2 or not values:
        return None
    x, y = Axis(1, epochs, ()), linear_axis(values, ticks=3, least=0.02)
    lines = []
    for curve, series in found:
        points = [
            (x.place(epoch), 100.0 - y.place(value)) for epoch, value in enumerate(series, start=1) if value is not None
        ]
        at = series[curve.chosen - 1] if 0 < curve.chosen <= len(series) else None
        chosen = None if at is None else (x.place(curve.chosen), round(100.0 - y.place(at), 2))
        text = " ".join(f"{left:.4g},{top:.4g}" for left, top in points)
        lines.append(Line(curve.seed, curve.fold, text, chosen))
    return Curves(name, epochs, y, tuple(lines))


def reliability(found: Reliability) -> Calibration:
    """Bars of a reliability diagram, percent of the square from the lower left."""
    most = max((bin.cycles for bin in found.bins), default=1)
    bars = tuple(
        Bar(
            left=100 * bin.low,
            width=100 * (bin.high - bin.low),
            accuracy=100 * bin.accuracy,
            confidence=100 * bin.confidence,
            share=bin.cycles / most,
            text=f"said {bin.confidence:.0%}, right {bin.accuracy:.0%} of {counted(bin.cycles, 'cycle')}",
        )
        for bin in found.bins
    )
    return Calibration(bars, found.ece, found.mce)


def champions(changes: Sequence[ChampionChange]) -> dict[str, History]:
    """By registered model, its champions' numbers as a staircase over time."""
    by_model: dict[str, list[ChampionChange]] = {}
    for change in changes:
        by_model.setdefault(change.model, []).append(change)
    return {model: _history(of_model) for model, of_model in sorted(by_model.items())}


def staircase(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float, float, float], ...]:
    """Lines (x, y, x', y') that hold each value until the next point, and the last to the end of the axis."""
    lines = []
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        lines += [(x, y, next_x, y), (next_x, y, next_x, next_y)]
    return (*lines, *((x, y, 100.0, y) for x, y in points[-1:]))


def _history(changes: Sequence[ChampionChange]) -> History:
    metric = changes[-1].metric
    known = [change for change in changes if change.score is not None and change.when and change.metric == metric]
    if len(known) < 2:
        return History(tuple(changes), metric, None, (), ())
    times = [datetime.fromisoformat(change.when).timestamp() for change in known]
    scores = [change.score for change in known if change.score is not None]
    x = Axis(times[0], max(times[-1], times[0] + 1), ())
    y = linear_axis([min(scores) - 0.5, max(scores) + 0.5], ticks=3)
    points = tuple(
        Step(6 + 0.84 * x.place(time), y.place(score), change)
        for time, score, change in zip(times, scores, known, strict=True)
    )
    return History(tuple(changes), metric, y, points, staircase([(point.x, point.at) for point in points]))


def _extent(entries: Sequence[Entry]) -> list[float]:
    """All ends of intervals, and the Scores."""
    found = [entry.numbers.score for entry in entries if entry.numbers]
    return [end for score in found for end in (score.mean, score.low, score.high) if end is not None]


def mark_of(entry: Entry, axis: Axis, x: float = 0.0, extra: str = "", front: bool = False) -> Mark:
    """An entry's mark; `extra` is said beside its objective."""
    assert entry.numbers is not None
    score = entry.numbers.score
    return Mark(
        id=entry.id,
        label=entry.model.label,
        detail=", ".join([entry.objective.label, *differs(entry, limit=1), *([extra] if extra else [])]),
        colour=colour(entry.model.family),
        at=axis.place(score.mean),
        low=None if score.low is None else axis.place(score.low),
        high=None if score.high is None else axis.place(score.high),
        rank=entry.rank,
        score=score.mean,
        x=x,
        front=front,
    )
