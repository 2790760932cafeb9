"""Rules that stop a trial between its folds. Pure functions of fold values, so that recorded sweeps can be replayed.

All trials run their folds in one order: the k-th value of every trial is of the same fold and seed. Values are Scores,
larger is better.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class History:
    """Fold values of the trials that have ended, pruned ones included, in arrays that grow by doubling.

    Args:
        folds: fold runs of a whole trial.
    """

    def __init__(self, folds: int) -> None:
        self.folds, self.count = folds, 0
        self._values = np.full((64, folds), np.nan)
        self._complete = np.zeros(64, dtype=bool)

    def add(self, values: Sequence[float], complete: bool) -> None:
        """Note a trial that has ended.

        Args:
            values: of its folds so far, in the common order.
            complete: whether it ran all of them.
        """
        if self.count == len(self._values):
            self._values = np.concatenate([self._values, np.full_like(self._values, np.nan)])
            self._complete = np.concatenate([self._complete, np.zeros_like(self._complete)])
        self._values[self.count, : len(values)] = values
        self._complete[self.count] = complete
        self.count += 1

    @property
    def values(self) -> np.ndarray:
        """``[trials, folds]``, NaN where a trial was stopped before."""
        return self._values[: self.count]

    @property
    def whole(self) -> np.ndarray:
        """``[complete trials, folds]``."""
        return self._values[: self.count][self._complete[: self.count]]

    def means_after(self, folds: int) -> np.ndarray:
        """Means over the first `folds` folds of the trials that got so far."""
        means = self.values[:, :folds].mean(axis=1)
        return means[~np.isnan(means)]

    def best(self) -> np.ndarray:
        """``[folds]`` of the complete trial with the highest mean; of equal ones the first."""
        return self.whole[self.whole.mean(axis=1).argmax()]


@dataclass(frozen=True)
class Rule(ABC):
    """Whether a trial should stop after the folds that it has done.

    Attributes:
        after_folds: folds that every trial gets.
        startup_trials: complete trials before anything is stopped.
    """

    after_folds: int = 1
    startup_trials: int = 4

    def stops(self, values: Sequence[float], past: History) -> bool:
        """The rule's answer, once the trial has had its folds and the study its trials.

        Args:
            values: the trial's fold values so far, at least one.
            past: the trials that have ended.
        """
        if not self.after_folds <= len(values) < past.folds:
            return False
        if len(past.whole) < max(1, self.startup_trials):
            return False
        return self.judge(np.asarray(values, dtype=float), past)

    @abstractmethod
    def judge(self, values: np.ndarray, past: History) -> bool:
        """Whether the trial should stop, with enough known to tell."""


@dataclass(frozen=True)
class RunningMean(Rule):
    """Stops a trial whose mean over k folds is below a percentile of the others' over the same k.

    Optuna's own PercentilePruner takes the best value of all steps, which for a running mean is a matter of luck in the
    first fold.

    Attributes:
        percentile: share of trials that goes on, in percent; 50 is the median rule.
    """

    percentile: float = 50.0

    def judge(self, values: np.ndarray, past: History) -> bool:
        others = past.means_after(len(values))
        return bool(len(others)) and float(values.mean()) < float(np.percentile(others, 100 - self.percentile))


@dataclass(frozen=True)
class Halving(Rule):
    """Asynchronous successive halving across folds (Li et al., 2020), with folds as the resource.

    At the rungs of 1, reduction, reduction^2, ... folds only the best 1 / reduction of those that got there go on.

    Attributes:
        reduction: by which the number of trials shrinks and that of folds grows.
    """

    reduction: float = 2.0

    def judge(self, values: np.ndarray, past: History) -> bool:
        done = len(values)
        if done not in self.rungs(past.folds):
            return False
        mean = float(values.mean())
        reached = past.means_after(done)
        better = int((reached > mean).sum())
        return better >= max(1, int((len(reached) + 1) / self.reduction))

    def rungs(self, folds: int) -> list[int]:
        """Numbers of folds at which trials are compared."""
        rungs, rung = [], float(self.after_folds)
        while rung < folds:
            rungs.append(int(rung))
            rung = max(rung * self.reduction, int(rung) + 1)
        return rungs


@dataclass(frozen=True)
class Wilcoxon(Rule):
    """Stops a trial whose folds are worse than the best trial's by the signed-rank test (Wilcoxon, 1945), one-sided.

    With k folds the smallest p is 2^-k: at p = 0.1 nothing can be stopped before the fourth, at 0.05 before the fifth.

    Attributes:
        p: level of the test.
    """

    p: float = 0.1

    def judge(self, values: np.ndarray, past: History) -> bool:
        from scipy.stats import wilcoxon

        difference = values - past.best()[: len(values)]
        if not difference.any() or len(values) < self.earliest:
            return False
        return float(wilcoxon(difference, alternative="less", method="exact").pvalue) <= self.p

    @property
    def earliest(self) -> int:
        """Folds before which the test cannot reject."""
        return int(np.ceil(-np.log2(self.p) - 1e-9))
