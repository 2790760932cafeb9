"""What Ray Tune is told: configs from the study, and when to stop a trial."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.budget import Ledger
from orchestrator.study import Study
from orchestrator.trial import OF, STEP, VALUE


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
        self.spent: dict[str, float] = {}
        self.broken: str | None = None
        self.pruned: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        history = self.study.history() if self.ledger.budget.chance is not None else None
        self.limit = self.limit or self.ledger.reached(history)
        if self.broken or self.limit:
            return Searcher.FINISHED
        asked = self.study.ask()
        self.numbers[trial_id] = asked.number
        return {"number": asked.number, "family": asked.family, "config": asked.config.model_dump(mode="json")}

    def fold_done(self, trial_id: str, value: float, step: int, results: list[str], spent: float) -> bool:
        """Pass a running mean on; True when the pruner would stop the trial.

        Args:
            trial_id: Tune's.
            value, step: the running mean, and over how many fold runs.
            results: their names.
            spent: seconds of training that the last one took; 0 where it was found.
        """
        self.values[trial_id], self.results[trial_id] = value, results
        self.spent[trial_id] = self.spent.get(trial_id, 0.0) + spent
        self.ledger.note(spent)
        return self.study.report(self.numbers[trial_id], value, step)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        if trial_id not in self.numbers:
            return
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
            spent=self.spent.pop(trial_id, 0.0),
        )
        self.pruned.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is the state, and a resume is a new Tuner over it."""

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
        spent = 0.0 if result["cached"] else result["seconds"]
        stop = self.searcher.fold_done(trial.trial_id, result[VALUE], result[STEP], result["results"], spent)
        if stop and result[STEP] < result[OF]:
            self.searcher.pruned.add(trial.trial_id)
            return self.STOP
        return self.CONTINUE
