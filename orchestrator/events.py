"""Events of a sweep: one frozen dataclass per kind, passed to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from feature_store.metrics import Metric


@dataclass(frozen=True)
class SearchStarted:
    """The search of a study starts, or starts again.

    Attributes:
        study: its name.
        metric: what its trials are compared by.
        missing: trials still to run.
        taken_up: trials that a killed driver left unfinished, and that run again.
        slots: trials that may run at once.
    """

    study: str
    metric: Metric
    missing: int
    taken_up: int
    slots: int


@dataclass(frozen=True)
class FoldDone:
    """A trial has one more fold run.

    Attributes:
        fold_value: its metric on this fold, percent.
        value: the running mean over the trial's fold runs so far.
        fold_runs: how many it has, of `fold_runs_in_all`.
        cached: found in the result store, not trained.
        seconds: that its training took, whenever that was.
        gpus: share of a GPU that it was given.
    """

    trial: int
    family: str
    metric: Metric
    fold: int
    fold_value: float
    value: float
    fold_runs: int
    fold_runs_in_all: int
    cached: bool
    seconds: float
    gpus: float


@dataclass(frozen=True)
class TrialEnded:
    """A trial is complete, pruned or failed; `state` is Optuna's name of it, `value` its mean so far."""

    trial: int
    family: str
    state: str
    value: float | None
    params: dict[str, Any]


@dataclass(frozen=True)
class TrialFailed:
    """A trial's own error, with the config that reproduces it."""

    study: str
    trial: int
    family: str
    error: str
    config: dict[str, Any]


@dataclass(frozen=True)
class BudgetReached:
    """The search asks for no more trials, because of this limit."""

    limit: str


@dataclass(frozen=True)
class FinalistStarted:
    """A finalist's training on the whole training side starts; `cached` of its `runs` are in the result store."""

    family: str
    runs: int
    cached: int


@dataclass(frozen=True)
class FinalistRunDone:
    """One run of a finalist: its test side, in percent, under the config's protocol."""

    family: str
    seed: int
    fold: int
    metric: Metric
    score: float
    specificity: float
    sensitivity: float


@dataclass(frozen=True)
class FinalistFailed:
    """A finalist has no complete set of runs, so it is neither recorded nor registered; `errors` has one per run."""

    family: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class FinalistNotRecorded:
    """MLflow did not take a finalist.

    Attributes:
        registers: it is the sweep's best, so it is not registered either.
        refused: why MLflow refused it and what to do; None where MLflow did not answer.
    """

    family: str
    registers: bool
    refused: str | None = None


@dataclass(frozen=True)
class ModelRegistered:
    """The sweep's best is a version of a registered model; `kept_back`: why it does not become champion."""

    name: str
    version: str
    aliases: tuple[str, ...]
    kept_back: str | None


@dataclass(frozen=True)
class DriverWaited:
    """Another driver has the study; this one watches for so many seconds whether it is alive."""

    holder: str
    seconds: float


@dataclass(frozen=True)
class MlflowLost:
    """MLflow cannot be reached; the sweep goes on without it."""

    error: str


@dataclass(frozen=True)
class MlflowRefused:
    """MLflow answers and does not take what the sweep writes; `error` says why and what to do. The sweep goes on."""

    error: str


@dataclass(frozen=True)
class WebhookLost:
    """The webhook does not take messages; the error never holds its URL."""

    error: str


Event = (
    SearchStarted
    | FoldDone
    | TrialEnded
    | TrialFailed
    | BudgetReached
    | FinalistStarted
    | FinalistRunDone
    | FinalistFailed
    | FinalistNotRecorded
    | ModelRegistered
    | DriverWaited
    | MlflowLost
    | MlflowRefused
    | WebhookLost
)
Watch = Callable[[Event], None]
