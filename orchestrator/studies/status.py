"""Where a study stands, from anywhere: read from Optuna's storage and the audit log, without touching the sweep."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from optuna.trial import TrialState

from feature_store.settings import Settings
from orchestrator.studies.storage import find_study, load_study
from orchestrator.studies.study import TrialSummary
from workers.audit_log import AuditLog


@dataclass(frozen=True)
class Status:
    """A study as it stands.

    Attributes:
        states: number of trials by state, those that a killed driver left not counted.
        best: the best complete trial, described; None before the first.
        running: the trials under way, described.
        fold_runs: done by all trials.
        training: fold runs that began and neither ended nor were published yet: hash and seconds since then.
        idle_seconds: since the last event of any fold run; None where there is none.
    """

    study: str
    states: dict[str, int]
    best: TrialSummary | None
    running: list[TrialSummary]
    failed: list[TrialSummary]
    fold_runs: int
    training: list[tuple[str, float]]
    idle_seconds: float | None


def status_of(name: str, settings: Settings) -> Status:
    """A study's state.

    Args:
        name: the study's, or its beginning where that is enough.
        settings: where Optuna's storage and the results are.

    Raises:
        UserError: there is no such study, or more than one.
    """
    trials = [t for t in load_study(name, settings).get_trials(deepcopy=False) if not t.user_attrs.get("abandoned")]
    described = [TrialSummary.of(trial) for trial in trials if trial.state != TrialState.WAITING]
    complete = [one for one in described if one.state == "COMPLETE" and one.value is not None]
    begun, last = _audit(settings)
    now = time.time()
    return Status(
        study=find_study(name, settings),
        states=dict(Counter(one.state for one in described)),
        best=max(complete, key=lambda one: (one.value or 0.0, -one.trial), default=None),
        running=[one for one in described if one.state == "RUNNING"],
        failed=[one for one in described if one.state == "FAIL"],
        fold_runs=sum(one.fold_runs for one in described),
        training=[(run, now - since) for run, since in begun.items()],
        idle_seconds=None if last is None else now - last,
    )


def _audit(settings: Settings) -> tuple[dict[str, float], float | None]:
    """When the fold runs that are not finished began, and the last event of all."""
    begun: dict[str, float] = {}
    last: float | None = None
    for run, event, at in AuditLog.open(settings.results).names():
        last = at if last is None else max(last, at)
        if event == "begun":
            begun[run] = at
        elif event != "test_read":  # a watched test side is read in the middle of a training
            begun.pop(run, None)
    return begun, last
