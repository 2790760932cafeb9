"""Rules that stop a trial between its folds. Pure functions of fold values, so that recorded sweeps can be replayed.

All trials run their folds in one order: the k-th value of every trial is of the same fold and seed. Values are Scores,
larger is better.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from feature_store.counted import counted
from search_spaces.pruners import RulePart

Settings = TypeVar("Settings", bound=RulePart)


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


class Rule(ABC, Generic[Settings]):
    """Whether a trial should stop after the folds that it has done.

    Args:
        settings: of the rule, as a search space gives them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def stops(self, values: Sequence[float], past: History) -> bool:
        """The rule's answer, once the trial has had its folds and the study its trials.

        Args:
            values: the trial's fold values so far, at least one.
            past: the trials that have ended.
        """
        if not self.settings.after_folds <= len(values) < past.folds:
            return False
        if len(past.whole) < max(1, self.settings.startup_trials):
            return False
        return self.judge(np.asarray(values, dtype=float), past)

    @abstractmethod
    def judge(self, values: np.ndarray, past: History) -> bool:
        """Whether the trial should stop, with enough known to tell.

        Args:
            values: ``[done]`` fold values of the trial so far.
            past: the trials that have ended, at least one of them complete.
        """

    def warnings(self, fold_runs: int, trials: int) -> list[str]:
        """Why the rule can never stop a trial of a sweep, if that is so.

        Args:
            fold_runs: of a whole trial.
            trials: of the sweep.
        """
        after, startup = self.settings.after_folds, self.settings.startup_trials
        if after >= fold_runs:
            return [f"pruner: every trial gets {counted(after, 'fold')} and has {fold_runs}: nothing can be stopped"]
        if startup >= trials:
            return [f"pruner: it waits for {counted(startup, 'complete trial')}, and the sweep has no more"]
        return []
