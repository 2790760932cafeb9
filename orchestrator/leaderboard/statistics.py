"""How far a Score can be trusted: bootstrap over patients, mean and deviation over seeds.

Cycles of one patient sound alike, so the patient is what is drawn again, never the cycle.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 20170
LEVEL = 0.95


@dataclass(frozen=True)
class PatientHits:
    """Hits and cycles of every patient, from which each resample's Score follows by one matrix product.

    Attributes:
        patients: sorted.
        counts: ``[patients, 4]``: normal cycles hit, normal cycles, abnormal cycles hit (exact class), abnormal cycles.
    """

    patients: tuple[str, ...]
    counts: np.ndarray

    @property
    def score(self) -> float:
        """Score in percent of all patients together; a rate over no cycle is 0, as in `workers.evaluation`."""
        normal_hit, normal, abnormal_hit, abnormal = self.counts.sum(axis=0)
        return 50.0 * float(normal_hit / max(normal, 1) + abnormal_hit / max(abnormal, 1))


def patient_hits(predicted: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> PatientHits:
    """Count hits by patient.

    Args:
        predicted, labels: ``[cycles]`` class numbers; 0 is normal.
        patients: ``[cycles]`` patient of each cycle.
    """
    names, row = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    hit, normal = predicted == labels, labels == 0
    columns = (hit & normal, normal, hit & ~normal, ~normal)
    counts = np.stack([np.bincount(row, weights=column, minlength=len(names)) for column in columns], axis=1)
    return PatientHits(tuple(str(name) for name in names), counts)


def mean_over_seeds(hits: Sequence[PatientHits]) -> PatientHits:
    """The seeds' mean hits: both rates are linear in them, so their Score is the mean of the seeds' Scores.

    Raises:
        ValueError: the seeds were not tested on the same cycles.
    """
    first = hits[0]
    for other in hits[1:]:
        if other.patients != first.patients or not np.array_equal(other.counts[:, 1::2], first.counts[:, 1::2]):
            raise ValueError("the seeds were tested on different cycles")
    return PatientHits(first.patients, np.mean([h.counts for h in hits], axis=0))


def scores(counts: np.ndarray) -> np.ndarray:
    """Scores in percent from counts ``[..., 4]``; NaN where one of the two rates has no cycle."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 50.0 * (counts[..., 0] / counts[..., 1] + counts[..., 2] / counts[..., 3])


@functools.lru_cache(maxsize=32)
def draws(patients: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each patient is drawn: ``[resamples, patients]``, each row summing to `patients`.

    Equal arguments give equal draws, so the resamples of two entries on one test side are paired.
    """
    generator = np.random.default_rng([seed, patients])
    weights = generator.multinomial(patients, np.full(patients, 1.0 / patients), size=resamples).astype(np.float32)
    weights.setflags(write=False)
    return weights


def bootstrap(folds: Sequence[PatientHits], resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Scores ``[resamples]`` of resampled patients: drawn within each fold, then the mean over folds.

    A fold whose resample has no normal or no abnormal cycle is left out of that resample's mean; a resample that has
    no fold left is NaN.
    """
    by_fold = [
        scores((draws(len(fold.patients), resamples, seed + index) @ fold.counts.astype(np.float32)).astype(np.float64))
        for index, fold in enumerate(folds)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        return np.nanmean(np.stack(by_fold), axis=0)


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples; None where fewer than half of them are defined."""
    defined = samples[np.isfinite(samples)]
    if len(defined) * 2 < len(samples) or not len(defined):
        return None
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two intervals have a point in common."""
    return first[0] <= second[1] and second[0] <= first[1]
