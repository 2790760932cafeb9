"""What Ray Tune is told: configs from the study, and when to stop a trial."""

from __future__ import annotations

import time
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.study import Study
from orchestrator.trial import OF, STEP, VALUE


class StudySearcher(Searcher):
    """Gives Tune the study's configs, and the study Tune's results.

    Ray's OptunaSearch is not used: it tells Optuna COMPLETE for trials that were stopped, leaves them running on NaN,
    and cannot go on over a study that is ahead of Tune's snapshot.

    Args:
        study: asked and told.
        deadline: `time.monotonic` after which nothing new is begun, or None.
    """

    def __init__(self, study: Study, deadline: float | None = None) -> None:
        super().__init__(metric=VALUE, mode="max")
        self.study, self.deadline = study, deadline
        self.numbers: dict[str, int] = {}
        self.values: dict[str, float] = {}
        self.pruned: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        if self.deadline is not None and time.monotonic() > self.deadline:
            return Searcher.FINISHED
        asked = self.study.ask()
        self.numbers[trial_id] = asked.number
        return {"number": asked.number, "family": asked.family, "config": asked.config.model_dump(mode="json")}

    def fold_done(self, trial_id: str, value: float, step: int) -> bool:
        """Pass a running mean on; True when the pruner would stop the trial."""
        self.values[trial_id] = value
        return self.study.report(self.numbers[trial_id], value, step)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        if trial_id not in self.numbers:
            return
        message = (result or {}).get("error") or ("its process died" if error else None)
        self.study.tell(
            self.numbers[trial_id], self.values.get(trial_id), pruned=trial_id in self.pruned, error=message
        )

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
        stop = self.searcher.fold_done(trial.trial_id, result[VALUE], result[STEP])
        if stop and result[STEP] < result[OF]:
            self.searcher.pruned.add(trial.trial_id)
            return self.STOP
        return self.CONTINUE
