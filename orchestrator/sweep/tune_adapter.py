"""What Ray Tune is told: configs from the study, how many at once, and when to stop a trial."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from feature_store.errors import UserError
from orchestrator.execution.cluster import Cluster
from orchestrator.execution.gpu_sharing import Packing
from orchestrator.studies.budget import Ledger, Spent
from orchestrator.studies.study import Asked, Study
from orchestrator.sweep.trial import VALUE, FailureReport, FoldReport, of_tune

LOOK = 10.0  # seconds between two looks at what the cluster has


@dataclass
class _Open:
    """A trial under way, as its last report leaves it."""

    asked: Asked
    value: float | None = None
    cost: float | None = None
    results: list[str] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    pruned: bool = False


class StudySearcher(Searcher):
    """Gives Tune the study's configs, and the study Tune's results.

    Ray's OptunaSearch is not used: it tells Optuna COMPLETE for trials that were stopped, leaves them running on NaN,
    and cannot go on over a study that is ahead of Tune's snapshot.

    Args:
        study: asked and told.
        ledger: what the sweep may spend and has spent.

    Attributes:
        limit: of the budget that was reached, if one was.
        broken: the fault of the machine or of another package that stopped the sweep, if one did.
        slots: trials that may run at once; None for any number. Unless the search space says how many, it follows what
            the cluster has: nodes that join are used, and those that leave are not waited for.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        super().__init__(metric=VALUE, mode="max")
        self.study, self.ledger = study, ledger
        self.limit: str | None = None
        self.broken: str | None = None
        self.slots: int | None = None
        self.open: dict[str, _Open] = {}
        self.packing = Packing(ledger.resources)
        self._looked = time.monotonic()

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune's question whether this searcher itself keeps to `max_concurrent_trials`. It does."""
        self.slots = max_concurrent
        return True

    def _full(self) -> bool:
        """Whether as many trials run as may."""
        if self.slots is None:
            return False
        if self.ledger.resources.concurrent_trials is None and time.monotonic() - self._looked >= LOOK:
            self.slots, self._looked = Cluster.now().trials(self.ledger.resources), time.monotonic()
        return len(self.open) >= self.slots

    def _taken_over(self) -> bool:
        """Whether another driver has the study now; this one then leaves it alone."""
        if self.study.taken_by is not None:
            self.broken = f"another driver took the study over: {self.study.taken_by}"
        return self.study.taken_by is not None

    def suggest(self, trial_id: str) -> Any:
        if self._full():
            return None
        self._taken_over()
        history = self.study.history() if self.ledger.budget.chance is not None else None
        self.limit = self.limit or self.ledger.reached(history)
        if self.broken or self.limit:
            return Searcher.FINISHED
        asked = self.study.ask()
        self.open[trial_id] = _Open(asked)
        config = asked.config.model_dump(mode="json")
        return {"number": asked.number, "family": asked.family, "config": config, "shares": dict(self.packing.shares)}

    def fold_done(self, trial_id: str, report: FoldReport) -> bool:
        """Pass a trial's report on; True when the pruner would stop the trial.

        Args:
            trial_id: Tune's.
            report: after a fold run.
        """
        trial = self.open[trial_id]
        trial.value, trial.cost, trial.results = report.value, report.cost, report.results
        if not report.cached:
            trial.spent.add(report.seconds, report.gpus)
            self.ledger.note(report.seconds, report.gpus)
        self.packing.note(trial.asked.config, report.peak_bytes, report.device_bytes)
        if self._taken_over():
            return True
        try:
            return self.study.report(trial.asked.number, report.value, report.fold_runs)
        except UserError as error:  # the rule of another package fails: what runs goes on, and nothing more is begun
            self.broken = self.broken or f"{error.where}: {error.what}"
            return False

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        trial = self.open.pop(trial_id, None)
        if trial is None or self._taken_over():
            return
        last = of_tune(result) if result and VALUE in result else None
        message = last.error if isinstance(last, FailureReport) else None
        machine = isinstance(last, FailureReport) and last.fault == "machine"
        if error or machine:  # no fault of the trial: the next start takes it up
            self.broken = message or "a trial's process died again and again"
            return
        self.study.tell(
            trial.asked.number,
            trial.value,
            pruned=trial.pruned,
            error=message,
            results=trial.results,
            spent=trial.spent,
            cost=trial.cost,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to save: the study is the state, and a resume is a new Tuner over it."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save, see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see `save`."""


class FoldScheduler(FIFOScheduler):
    """Stops a trial between folds when the study's pruner says so."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """No preference: Tune then gives a trial process that is free to the next trial.

        FIFO's own answer would give it to the trial that waits longest, whose own process is just starting: that one is
        thrown away, and another is started for the next trial. Trials that are over in less time than a process takes
        to start, as those are whose results are found, would keep the machine starting processes and do little else.
        """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        report = of_tune(result)
        if isinstance(report, FailureReport):
            return self.CONTINUE
        stop = self.searcher.fold_done(trial.trial_id, report)
        if stop and report.fold_runs < report.fold_runs_in_all:
            self.searcher.open[trial.trial_id].pruned = True
            return self.STOP
        return self.CONTINUE
