"""Fold-aware pruning: a trial's running mean over its first k fold runs against the others' over the same k."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces.schema import Pruner


class RunningMeanPruner(optuna.pruners.BasePruner):
    """Stops a trial whose running mean is below a percentile of the other trials' at the same number of folds.

    All trials run their folds in one order, so step k is the mean over the same k folds in each. Optuna's own
    PercentilePruner takes the best value of all steps, which for a running mean is a matter of luck in the first fold.

    Args:
        percentile: share of trials that goes on, in percent; 50 is the median rule.
        startup_trials: completed trials before anything is pruned.
        after_folds: fold runs that every trial gets.
    """

    def __init__(self, percentile: float, startup_trials: int, after_folds: int) -> None:
        self.percentile, self.startup_trials, self.after_folds = percentile, startup_trials, after_folds

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self.after_folds:
            return False
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if sum(other.state == TrialState.COMPLETE for other in others) < self.startup_trials:
            return False
        values = [other.intermediate_values[step] for other in others if step in other.intermediate_values]
        if not values:
            return False
        return trial.intermediate_values[step] < float(np.percentile(values, 100 - self.percentile))


def build_pruner(config: Pruner) -> optuna.pruners.BasePruner:
    """The pruner that a search space asks for."""
    if config.name == "none":
        return optuna.pruners.NopPruner()
    percentile = 50.0 if config.name == "median" else config.percentile
    return RunningMeanPruner(percentile, config.startup_trials, config.after_folds)
