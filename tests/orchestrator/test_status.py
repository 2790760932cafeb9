"""`lungtune status` and `lungtune train --trial`: a study read from outside."""

from __future__ import annotations

import json

import pytest

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.studies.status import status_of
from orchestrator.studies.study import Study
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from tests.support.tiny_sweep import tiny_sweep
from workers.audit_log import AuditLog

SPACE = SearchSpace.parse(tiny_sweep(name="watched"))


@pytest.fixture
def study(settings: Settings) -> Study:
    """Two complete trials, one that failed, one abandoned by a killed driver, one under way."""
    abandoned = Study(SPACE, settings, 2)
    abandoned.ask()
    found = Study(SPACE, settings, 2)
    found.take_up()
    for values in ([40.0, 44.0], [50.0, 56.0]):
        asked = found.ask()
        for step in range(1, len(values) + 1):
            found.report(asked.number, sum(values[:step]) / step, step)
        found.tell(asked.number, sum(values) / 2)
    found.tell(found.ask().number, None, error="out of memory")
    running = found.ask()
    found.report(running.number, 60.0, 1)
    AuditLog.open(settings.results).note("f00d" * 10, "begun", resumed=False)
    return found


def test_a_status_counts_what_counts_and_names_the_best(study: Study, settings: Settings) -> None:
    status = status_of("watched", settings)
    assert status.states == {"COMPLETE": 2, "FAIL": 1, "RUNNING": 1} and status.fold_runs == 5
    assert status.best is not None and status.best.value == 53.0
    assert [trial.value for trial in status.running] == [60.0]
    assert [trial.error for trial in status.failed] == ["out of memory"]
    assert [run for run, _ in status.training] == ["f00d" * 10] and status.idle_seconds is not None


@pytest.mark.slow
def test_the_command_shows_it_and_how_to_run_a_failed_trial_alone(study: Study, run: Run) -> None:
    code, printed, _ = run("status")
    assert code == 0 and study.name in printed and "best: trial 2 all at 53.00" in printed
    alone = next(line for line in printed.splitlines() if "failed" in line).split("alone: lungtune ")[1].rstrip(")")
    code, printed, _ = run(*alone.split(), "--json")
    assert code == 0
    runs = json.loads(printed)["runs"]
    assert [(row["split"], row["fold"]) for row in runs] == [("official-inner2", 0), ("official-inner2", 1)]
    (status,) = json.loads(run("status", "watched", "--json")[1])
    assert status["study"] == study.name and status["states"]["FAIL"] == 1


def test_nothing_started_is_no_error(run: Run) -> None:
    assert run("status")[:2] == (0, "no sweep has been started here yet\n")


def test_bad_names(study: Study, settings: Settings, run: Run) -> None:
    with pytest.raises(UserError, match="no study begins with"):
        status_of("wathced", settings)
    for trial, told in (("watched/99", "its trials are 0 to"), ("watched", "not STUDY/NUMBER"), ("none/1", "no study")):
        code, _, error = run("train", "--trial", trial)
        assert code == 2 and told in error
    assert "give a config" in run("train")[2]
