"""A sweep's progress as one table in the terminal that is always up to date; where there is no terminal, lines."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from feature_store.metrics import LABELS, USUAL
from orchestrator.cli.console import err
from orchestrator.cli.progress import Reporter
from orchestrator.events import Event, FinalistStarted, FoldDone, SearchStarted, TrialEnded, TrialFailed

SHOWN = 12  # trials in the table: those under way, then the last that ended


@dataclass
class Row:
    """One trial as far as it is."""

    number: int
    family: str
    state: str = "running"
    value: float | None = None
    folds: int = 0
    of: int = 0
    seconds: float = 0.0
    changed: float = field(default_factory=time.monotonic)


class SweepState:
    """What a sweep has done so far, from its events alone."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.study, self.metric = "", USUAL
        self.missing = self.slots = 0
        self.rows: dict[int, Row] = {}
        self.trained = self.found = 0
        self.stage = "search"

    def take(self, event: Event) -> None:
        """Bring the state up to date with one event."""
        match event:
            case SearchStarted():
                self.study, self.metric = event.study, event.metric
                self.missing, self.slots = event.missing, event.slots
            case FoldDone():
                row = self._row(event.trial, event.family)
                row.value, row.folds, row.of = event.value, event.fold_runs, event.fold_runs_in_all
                if event.cached:
                    self.found += 1
                else:
                    self.trained += 1
                    row.seconds += event.seconds
            case TrialEnded():
                row = self._row(event.trial, event.family)
                row.state, row.value = event.state.lower(), event.value
            case TrialFailed():
                self._row(event.trial, event.family).state = "failed"
            case FinalistStarted():
                self.stage = f"training the best {event.family} on the whole training side"

    def _row(self, trial: int, family: str) -> Row:
        row = self.rows.setdefault(trial, Row(trial, family))
        row.changed = time.monotonic()
        return row

    def count(self, state: str) -> int:
        """Trials in a state."""
        return sum(row.state == state for row in self.rows.values())

    @property
    def best(self) -> Row | None:
        """The best complete trial so far; of equal ones the first."""
        done = [row for row in self.rows.values() if row.state == "complete" and row.value is not None]
        return max(done, key=lambda row: (row.value or 0.0, -row.number), default=None)

    @property
    def seconds_left(self) -> float | None:
        """Time until the search ends by what trials took so far, pruned ones included; None before the first ended."""
        ended = [row for row in self.rows.values() if row.state != "running"]
        spent = sum(row.seconds for row in ended)
        if not ended or not spent:
            return None
        return max(0, self.missing - len(ended)) * spent / len(ended) / max(1, self.slots)


class LiveReporter:
    """Shows a `SweepState` while events come, and prints what a reader must not miss above it."""

    def __init__(self, console: Console) -> None:
        self.state, self.lines = SweepState(), Reporter()
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)
        self.live.start()

    def __call__(self, event: Event) -> None:
        self.state.take(event)
        if not isinstance(event, SearchStarted | FoldDone | TrialEnded):
            self.lines(event)

    def close(self) -> None:
        """Take the table away; what was printed stays."""
        self.live.stop()

    def render(self) -> Group:
        """The table and the line above it."""
        state = self.state
        counts = ", ".join(f"{state.count(s)} {s}" for s in ("running", "complete", "pruned", "failed"))
        best = "none yet" if state.best is None else f"{state.best.value:.2f} (trial {state.best.number})"
        left = "?" if state.seconds_left is None else clock(state.seconds_left)
        head = Text.assemble((state.study, "bold"), f"  {state.stage}\n")
        head.append(f"trials: {counts} of {state.missing} to run\n")
        head.append(f"best so far: {best}; fold runs: {state.trained} trained, {state.found} found\n")
        head.append(f"{clock(time.monotonic() - state.started)} gone, about {left} left; {usage()}")
        table = Table(box=None, pad_edge=False)
        mean = f"mean {LABELS[state.metric]}"
        for name in ("trial", "family", "folds", mean, "state"):
            table.add_column(name, justify="right" if name in {"trial", "folds", mean} else "left")
        order = sorted(state.rows.values(), key=lambda row: (row.state != "running", -row.changed))
        for row in order[:SHOWN]:
            value = "-" if row.value is None else f"{row.value:.2f}"
            table.add_row(str(row.number), row.family, f"{row.folds}/{row.of or '?'}", value, row.state)
        return Group(head, table)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725)
    '1:02:05'
    """
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def usage() -> str:
    """How much of the cluster is taken, as Ray counts it."""
    import ray

    if not ray.is_initialized():
        return "the cluster is being joined"
    there, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{there[n] - free.get(n, 0.0):g} of {there[n]:g} {n}s" for n in ("CPU", "GPU") if there.get(n)]
    return f"{', '.join(parts)} busy"


def reporter() -> LiveReporter | Reporter:
    """A table where somebody watches, lines where nobody does."""
    return LiveReporter(err) if err.is_terminal else Reporter()
