"""The metric against cost: where each entry lies, and the front of those that none beats at their cost or below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.leaderboard.schema import Entry, Table
from orchestrator.leaderboard.site.figures import (
    Axis,
    Guess,
    Mark,
    colour,
    guess,
    linear_axis,
    log_axis,
    mark_of,
    short_count,
    staircase,
)

POINTS = 300  # beside the front
LABEL_WIDTH, LABEL_HEIGHT = 24.0, 7.0  # room that a label takes, percent


@dataclass(frozen=True)
class Cost:
    """One way to count what a model costs; `of` is None where it is not known."""

    key: str
    name: str
    of: Callable[[Entry], float | None]
    text: Callable[[float], str]


COSTS = (
    Cost("minutes", "training minutes", lambda entry: entry.cost.train_minutes, lambda value: f"{value:.3g} min"),
    Cost("gpu_hours", "GPU hours", lambda entry: entry.cost.gpu_hours, lambda value: f"{value:.3g} GPU h"),
    Cost("parameters", "parameters", lambda entry: entry.model.parameters, short_count),
)


@dataclass(frozen=True)
class Pareto:
    """The metric against one cost on a logarithmic axis.

    Attributes:
        families: (colour, names), as the legend has them.
        steps: (x, y, x', y') of the front's lines, percent, y from below.
        marks: by rising cost; `front` of a mark says that it is on the front.
        left_out: entries that are not drawn, all of them beaten.
    """

    cost: Cost
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    steps: tuple[tuple[float, float, float, float], ...]
    families: tuple[tuple[str, str], ...]
    guess: Guess | None
    left_out: int


def plots(table: Table) -> list[Pareto]:
    """A plot for each cost in which the ranked entries differ."""
    found = (pareto(table, cost) for cost in COSTS)
    return [plot for plot in found if plot is not None]


def pareto(table: Table, cost: Cost) -> Pareto | None:
    """The plot for one cost; None if fewer than two entries have it, or all the same."""
    scored = [(cost.of(entry), entry) for entry in table.entries]
    known = [(value, entry) for value, entry in scored if value is not None and value > 0]
    if len({value for value, _ in known}) < 2:
        return None
    best = front(known)
    others = [pair for pair in known if pair[1].id not in best][:POINTS]
    shown = [*others, *(pair for pair in known if pair[1].id in best)]
    shown.sort(key=lambda pair: (pair[0], _score(pair[1]), pair[1].id))
    x = log_axis([value for value, _ in shown], cost.text)
    y = linear_axis(_extent([entry for _, entry in shown]))
    marks: list[Mark] = []
    for value, entry in shown:
        mark = mark_of(entry, y, x.place(math.log10(value)), extra=cost.text(value), front=entry.id in best)
        marks.append(_labelled(mark, marks) if mark.front else mark)
    return Pareto(
        cost=cost,
        x=x,
        y=y,
        marks=tuple(marks),
        steps=staircase([(mark.x, mark.at) for mark in marks if mark.front]),
        families=_families([entry for _, entry in shown]),
        guess=guess(table, y),
        left_out=len(known) - len(shown),
    )


def front(known: Sequence[tuple[float, Entry]]) -> set[str]:
    """Ids of the entries that no other beats: none is as good at less cost, none better at the same."""
    best, found = -math.inf, set()
    for _, entry in sorted(known, key=lambda pair: (pair[0], -_score(pair[1]), pair[1].id)):
        if _score(entry) > best:
            best = _score(entry)
            found.add(entry.id)
    return found


def _families(entries: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """Colour and names of the families that have it."""
    names: dict[str, set[str]] = {}
    for entry in entries:
        names.setdefault(colour(entry.model.family), set()).add(entry.model.label.split(" ")[0].rstrip(","))
    return tuple((key, ", ".join(sorted(found))) for key, found in sorted(names.items()))


def _score(entry: Entry) -> float:
    assert entry.numbers is not None
    return entry.numbers.score.mean


def _extent(entries: Sequence[Entry]) -> list[float]:
    """The lowest and the highest value, with a margin."""
    values = [_score(entry) for entry in entries]
    return [min(values) - 0.5, max(values) + 0.5]


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
            return replace(mark, label_side=side)
    return mark


def _span(mark: Mark) -> tuple[float, float]:
    """Left and right end of a mark with its label, percent."""
    return {
        "right": (mark.x - 2, mark.x + LABEL_WIDTH),
        "left": (mark.x - LABEL_WIDTH, mark.x + 2),
        "none": (mark.x - 2, mark.x + 2),
    }[mark.label_side]
