"""Our own rule: stop a trial once it can hardly end above the best one, by what folds and trials have shown so far."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from orchestrator.pruning.rule import History, Rule
from search_spaces.pruners import RacingPruner


class Spread(NamedTuple):
    """How Scores spread, from the trials that have ended.

    A value is fold effect + config effect + noise: folds differ much and alike for all configs, so their effect is
    taken out before configs are compared.

    Attributes:
        folds: ``[folds]`` effect of each fold.
        mean, variance: of the config effects: what a new trial is expected to be.
        noise: variance of what is left, of one fold.
    """

    folds: np.ndarray
    mean: float
    variance: float
    noise: float


class Racing(Rule[RacingPruner]):
    """Stops a trial whose chance to end above the best complete trial has fallen to a share of a new trial's chance.

    After many trials any new one has little chance, so a fixed level would stop every trial at its first fold; what
    counts is what its own folds have made of the chance that it began with. The chance follows from a normal model in
    which a trial's unknown config effect has the spread of all trials' as its prior, so that one lucky or unlucky fold
    counts for little where folds are noisy, and for much where they agree. The best trial's final mean is known; the
    folds that are still to come add their own noise.
    """

    def judge(self, values: np.ndarray, past: History) -> bool:
        spread, best = spread_of(past), float(past.best().mean())
        return self.chance_to_win(values, best, spread) < self.settings.share * self.chance_to_win(
            values[:0], best, spread
        )

    @staticmethod
    def chance_to_win(values: np.ndarray, best: float, spread: Spread) -> float:
        """Probability that the mean over all folds will be above `best`.

        Args:
            values: ``[done]`` of the trial's first folds; none for a trial that has not begun.
            best: final mean of the best trial.
            spread: see `Spread`.
        """
        done, folds = len(values), len(spread.folds)
        left = folds - done
        residual = values - spread.folds[:done]
        weight = 1.0 / spread.variance + done / spread.noise
        effect = (spread.mean / spread.variance + residual.sum() / spread.noise) / weight
        expected = values.sum() + spread.folds[done:].sum() + left * effect
        deviation = math.sqrt(left**2 / weight + left * spread.noise)
        return 0.5 * math.erfc((folds * best - expected) / deviation / math.sqrt(2))


def build(settings: RacingPruner) -> Racing:
    """The rule of these settings."""
    return Racing(settings)


SMALLEST = 1e-3  # squared Score points: a variance is never taken for less


def spread_of(past: History) -> Spread:
    """Fold effects, config effects and noise from ended trials, pruned ones included, by moments.

    Pruned trials count: without them the prior would be that of the winners alone.
    """
    whole = past.whole
    effects = whole.mean(axis=0) - whole.mean()
    residuals = past.values - effects
    lengths = (~np.isnan(residuals)).sum(axis=1)
    centres = np.nansum(residuals, axis=1) / lengths
    squares = float(np.nansum((residuals - centres[:, None]) ** 2))
    free = int((lengths - 1).sum()) - (past.folds - 1)  # the fold effects were fitted
    noise = squares / free if free > 0 else float(np.var(whole - effects)) if whole.size > 1 else 1.0
    noise = max(noise, SMALLEST)
    between = float(np.var(centres, ddof=1)) if len(centres) > 1 else noise
    variance = max(between - noise * float((1.0 / lengths).mean()), 0.1 * noise, SMALLEST)
    return Spread(effects, float(centres.mean()), variance, noise)
