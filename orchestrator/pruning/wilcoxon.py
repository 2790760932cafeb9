"""The rule `wilcoxon`: a trial's folds against the best trial's."""

from __future__ import annotations

import numpy as np

from orchestrator.pruning.rule import History, Rule
from search_spaces.pruners import WilcoxonPruner


class Wilcoxon(Rule[WilcoxonPruner]):
    """Stops a trial whose folds are worse than the best trial's by the signed-rank test (Wilcoxon, 1945), one-sided.

    With k folds the smallest p is 2^-k: at p = 0.1 nothing can be stopped before the fourth, at 0.05 before the fifth.
    """

    def judge(self, values: np.ndarray, past: History) -> bool:
        from scipy.stats import wilcoxon

        difference = values - past.best()[: len(values)]
        if not difference.any() or len(values) < self.earliest:
            return False
        return float(wilcoxon(difference, alternative="less", method="exact").pvalue) <= self.settings.p

    @property
    def earliest(self) -> int:
        """Folds before which the test cannot reject."""
        return int(np.ceil(-np.log2(self.settings.p) - 1e-9))

    def warnings(self, fold_runs: int, trials: int) -> list[str]:
        """Also where the test cannot reject before the last fold."""
        if self.settings.after_folds < fold_runs <= self.earliest:
            first = f"its test at p = {self.settings.p:g} cannot reject before fold {self.earliest}"
            return [f"pruner wilcoxon is inert: {first}, and a trial has {fold_runs}; raise p or use racing"]
        return super().warnings(fold_runs, trials)


def build(settings: WilcoxonPruner) -> Wilcoxon:
    """The rule of these settings."""
    return Wilcoxon(settings)
