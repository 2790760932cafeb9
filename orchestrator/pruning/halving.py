"""The rule `halving`: of the trials that got to a rung, only the best go on."""

from __future__ import annotations

import numpy as np

from orchestrator.pruning.rule import History, Rule
from search_spaces.pruners import HalvingPruner


class Halving(Rule[HalvingPruner]):
    """Asynchronous successive halving across folds (Li et al., 2020), with folds as the resource.

    From the first rung on, after_folds, each is `reduction` times the one before; of the trials that got to a rung only
    the best 1 / `reduction` go on.
    """

    def judge(self, values: np.ndarray, past: History) -> bool:
        done = len(values)
        if done not in self.rungs(past.folds):
            return False
        mean = float(values.mean())
        reached = past.means_after(done)
        better = int((reached > mean).sum())
        return better >= max(1, int((len(reached) + 1) / self.settings.reduction))

    def rungs(self, folds: int) -> list[int]:
        """Numbers of folds at which trials are compared."""
        rungs, rung = [], float(self.settings.after_folds)
        while rung < folds:
            rungs.append(int(rung))
            rung = max(rung * self.settings.reduction, int(rung) + 1)
        return rungs


def build(settings: HalvingPruner) -> Halving:
    """The rule of these settings."""
    return Halving(settings)
