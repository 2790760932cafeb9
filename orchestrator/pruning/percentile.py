"""The rules `median` and `percentile`: a trial's running mean against those of the others."""

from __future__ import annotations

import numpy as np

from orchestrator.pruning.rule import History, Rule
from search_spaces.pruners import MedianPruner, PercentilePruner

MEDIAN = 50.0


class RunningMean(Rule[MedianPruner | PercentilePruner]):
    """Stops a trial whose mean over k folds is below a percentile of the others' over the same k.

    Optuna's own PercentilePruner takes the best value of all steps, which for a running mean is a matter of luck in the
    first fold.
    """

    def judge(self, values: np.ndarray, past: History) -> bool:
        goes_on = self.settings.percentile if isinstance(self.settings, PercentilePruner) else MEDIAN
        others = past.means_after(len(values))
        return bool(len(others)) and float(values.mean()) < float(np.percentile(others, 100 - goes_on))


def build(settings: MedianPruner | PercentilePruner) -> RunningMean:
    """The rule of these settings."""
    return RunningMean(settings)
