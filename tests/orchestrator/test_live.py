"""The live table of a sweep."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import get_args

import pytest
from rich.console import Console

from orchestrator.cli.live import LiveReporter, SweepState
from orchestrator.cli.progress import line
from orchestrator.events import Event, FinalistFailed, FoldDone, SearchStarted, TrialEnded, TrialFailed


def fold(trial: int, done: int, value: float, cached: bool = False, seconds: float = 10.0) -> FoldDone:
    return FoldDone(
        trial=trial, family="mn", metric="icbhi4", fold=done - 1, fold_value=value, value=value, fold_runs=done,
        fold_runs_in_all=5, cached=cached, seconds=seconds, gpus=0.0,
    )  # fmt: skip


def ended(trial: int, value: float | None, state: str = "COMPLETE") -> TrialEnded:
    return TrialEnded(trial, "mn", state, value, {})


EVENTS: list[Event] = [
    SearchStarted("demo-1234", "icbhi4", missing=10, taken_up=0, slots=2),
    fold(0, 1, 50.0), fold(0, 2, 52.0), ended(0, 52.0),
    fold(1, 1, 40.0), ended(1, 40.0, "PRUNED"),
    fold(2, 1, 60.0, cached=True), fold(2, 2, 61.0),
    TrialFailed("demo", 3, "mn", "out of memory", {}),
]  # fmt: skip


def test_a_state_follows_from_the_events() -> None:
    state = SweepState()
    for event in EVENTS:
        state.take(event)
    assert [state.count(name) for name in ("running", "complete", "pruned", "failed")] == [1, 1, 1, 1]
    assert (state.trained, state.found) == (4, 1)
    assert state.best is not None and state.best.number == 0
    assert state.seconds_left == pytest.approx((10 - 3) * 30 / 3 / 2), "three ended in 30 s of training, two at once"


def test_before_anything_ended_nothing_is_promised() -> None:
    state = SweepState()
    state.take(EVENTS[0])
    state.take(EVENTS[1])
    assert state.seconds_left is None and state.best is None


def test_the_table_shows_what_runs_first_and_failures_stay_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    reporter = LiveReporter(Console(file=screen, force_terminal=True, width=100))
    for event in EVENTS:
        reporter(event)
    console = Console(file=io.StringIO(), width=100)
    console.print(reporter.render())
    reporter.close()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "demo-1234" in lines[0] and "1 running, 1 complete, 1 pruned, 1 failed of 10" in lines[1]
    assert "best so far: 52.00 (trial 0)" in lines[2] and "about 0:00:35 left" in lines[3]
    rows = [line.split() for line in lines[5:]]
    assert rows[0] == ["2", "mn", "2/5", "61.00", "running"] and len(rows) == 4
    assert "out of memory" in capsys.readouterr().err


def test_every_kind_of_event_has_a_line_without_python_in_it() -> None:
    values = {
        "metric": "icbhi4", "value": 51.5, "fold_value": 50.0, "seconds": 3.0, "gpus": 0.0, "score": 50.0,
        "specificity": 60.0, "sensitivity": 40.0, "params": {}, "config": {}, "errors": ("seed 0, fold 0: Diverged",),
        "aliases": ("champion",), "kept_back": None, "registers": True, "cached": True,
    }  # fmt: skip
    numbers = {"int": 1, "str": "some text"}
    kinds = get_args(Event)
    lines = []
    for kind in kinds:
        given = {field.name: values.get(field.name, numbers.get(str(field.type))) for field in fields(kind)}
        lines.append(line(kind(**given)))
    assert len(set(lines)) == len(kinds) == 14
    assert not [text for text in lines if "None" in text or "errors" in text or "('" in text]
    failed = line(FinalistFailed("mn", ("seed 0, fold 0: Diverged: the loss is nan",)))
    assert "the best mn is not recorded in MLflow or registered" in failed and "seed 0, fold 0: Diverged" in failed
