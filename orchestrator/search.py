"""What Ray Tune is told: configs from the study, and when to stop a trial."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.budget import Ledger, Spent
from orchestrator.packing import Packing
from orchestrator.study import Study
from orchestrator.trial import OF, STEP, VALUE
from workers.config import ExperimentConfig


class StudySearcher(Searcher):
    """Gives Tune the study's configs, and the study Tune's results.

    Ray's OptunaSearch is not used: it tells Optuna COMPLETE for trials that were stopped, leaves them running on NaN,
    and cannot go on over a study that is ahead of Tune's snapshot.

    Args:
        study: asked and told.
        ledger: what the sweep may spend and has spent.

    Attributes:
        limit: of the budget that was reached, if one was.
        broken: the machine's fault that stopped the sweep, if one did.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        super().__init__(metric=VALUE, mode="max")
        self.study, self.ledger = study, ledger
        self.limit: str | None = None
        self.numbers: dict[str, int] = {}
        self.values: dict[str, float] = {}
        self.results: dict[str, list[str]] = {}
        self.spent: dict[str, Spent] = {}
        self.costs: dict[str, float] = {}
        self.configs: dict[str, ExperimentConfig] = {}
        self.packing = Packing(ledger.resources)
        self.broken: str | None = None
        self.pruned: set[str] = set()

    def _taken_over(self) -> bool:
        """Whether another driver has the study now; this one then leaves it alone."""
        if self.study.taken_by is not None:
            self.broken = f"another driver took the study over: {self.study.taken_by}"
        return self.study.taken_by is not None

    def suggest(self, trial_id: str) -> Any:
        self._taken_over()
        history = self.study.history() if self.ledger.budget.chance is not None else None
        self.limit = self.limit or self.ledger.reached(history)
        if self.broken or self.limit:
            return Searcher.FINISHED
        asked = self.study.ask()
        self.numbers[trial_id] = asked.number
        self.configs[trial_id] = asked.config
        config = asked.config.model_dump(mode="json")
        return {"number": asked.number, "family": asked.family, "config": config, "shares": dict(self.packing.shares)}

    def fold_done(self, trial_id: str, report: dict[str, Any]) -> bool:
        """Pass a trial's report on; True when the pruner would stop the trial.

        Args:
            trial_id: Tune's.
            report: of `orchestrator.trial`, after a fold run.
        """
        self.values[trial_id], self.results[trial_id] = report[VALUE], report["results"]
        self.costs[trial_id] = report["cost"]
        if not report["cached"]:
            self.spent.setdefault(trial_id, Spent()).add(report["seconds"], report["gpus"])
            self.ledger.note(report["seconds"], report["gpus"])
        self.packing.note(self.configs[trial_id], report["peak_bytes"], report["device_bytes"])
        if self._taken_over():
            return True
        return self.study.report(self.numbers[trial_id], report[VALUE], report[STEP])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        if trial_id not in self.numbers or self._taken_over():
            return
        self.configs.pop(trial_id, None)
        message = (result or {}).get("error")
        if error or (result or {}).get("fault") == "machine":  # no fault of the trial: the next start takes it up
            self.broken = message or "a trial's process died again and again"
            return
        self.study.tell(
            self.numbers.pop(trial_id),
            self.values.pop(trial_id, None),
            pruned=trial_id in self.pruned,
            error=message,
            results=self.results.pop(trial_id, ()),
            spent=self.spent.pop(trial_id, None),
            cost=self.costs.pop(trial_id, None),
        )
        self.pruned.discard(trial_id)

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

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("error"):
            return self.CONTINUE
        stop = self.searcher.fold_done(trial.trial_id, result)
        if stop and result[STEP] < result[OF]:
            self.searcher.pruned.add(trial.trial_id)
            return self.STOP
        return self.CONTINUE
