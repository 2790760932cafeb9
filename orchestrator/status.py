"""Where a study stands, from anywhere: read from Optuna's storage and the audit log, without touching the sweep."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from feature_store.errors import UserError, nearest
from feature_store.settings import Settings
from orchestrator.study import Study, open_storage
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
    best: dict[str, Any] | None
    running: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    fold_runs: int
    training: list[tuple[str, float]]
    idle_seconds: float | None


def studies(settings: Settings) -> list[str]:
    """Names of all studies of the storage."""
    return sorted(optuna.get_all_study_names(open_storage(settings.optuna)))


def status_of(name: str, settings: Settings) -> Status:
    """A study's state.

    Args:
        name: the study's, or its beginning where that is enough.
        settings: where Optuna's storage and the results are.

    Raises:
        UserError: there is no such study, or more than one.
    """
    trials = [t for t in load_study(name, settings).get_trials(deepcopy=False) if not t.user_attrs.get("abandoned")]
    described = [Study.describe(trial) for trial in trials if trial.state != TrialState.WAITING]
    complete = [one for one in described if one["state"] == "COMPLETE" and one["value"] is not None]
    begun, last = _audit(settings)
    now = time.time()
    return Status(
        study=find_study(name, settings),
        states=dict(Counter(one["state"] for one in described)),
        best=max(complete, key=lambda one: (one["value"], -one["trial"]), default=None),
        running=[one for one in described if one["state"] == "RUNNING"],
        failed=[one for one in described if one["state"] == "FAIL"],
        fold_runs=sum(one["fold_runs"] for one in described),
        training=[(run, now - since) for run, since in begun.items()],
        idle_seconds=None if last is None else now - last,
    )


def find_study(name: str, settings: Settings) -> str:
    """The one study of that name, or that begins so.

    Raises:
        UserError: there is none, or more than one.
    """
    known = studies(settings)
    found = [name] if name in known else [one for one in known if one.startswith(name)]
    if len(found) == 1:
        return found[0]
    hint = nearest(name, known) if known and not found else f"known: {', '.join(found or known) or 'none yet'}"
    raise UserError(f"{len(found) or 'no'} study begins with '{name}'", where="study", hint=hint)


def load_study(name: str, settings: Settings) -> optuna.Study:
    """A study for reading.

    Raises:
        UserError: there is none of that name, or more than one.
    """
    return optuna.load_study(study_name=find_study(name, settings), storage=open_storage(settings.optuna))


def find_trial(study: str, number: int, settings: Settings) -> FrozenTrial:
    """One trial of a study.

    Raises:
        UserError: there is no such study or trial.
    """
    trials = load_study(study, settings).get_trials(deepcopy=False)
    if not 0 <= number < len(trials) or "config" not in trials[number].user_attrs:
        raise UserError(f"the study has no trial {number}", where=study, hint=f"its trials are 0 to {len(trials) - 1}")
    return trials[number]


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
