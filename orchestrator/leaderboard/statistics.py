"""How far a Score can be trusted: bootstrap over patients, mean and deviation over seeds.

Cycles of one patient sound alike, so the patient is what is drawn again, never the cycle.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 20170
LEVEL = 0.95
CHUNK = 250  # resamples computed at once: bounds the memory, changes no number


@dataclass(frozen=True)
class PatientHits:
    """Hits and cycles of every patient, from which each resample's Score follows by one matrix product.

    Attributes:
        patients: sorted.
        counts: ``[patients, 4]``, summed over seeds: normal cycles hit, normal cycles, abnormal cycles hit (exact
            class), abnormal cycles. Whole numbers, so that equal Scores are equal to the last bit.
        seeds: how many seeds were summed.
    """

    patients: tuple[str, ...]
    counts: np.ndarray
    seeds: int = 1

    @property
    def score(self) -> float:
        """Score in percent of all patients together; a rate over no cycle is 0, as in `workers.evaluation`."""
        normal_hit, normal, abnormal_hit, abnormal = self.counts.sum(axis=0)
        return 50.0 * float(normal_hit / max(normal, 1) + abnormal_hit / max(abnormal, 1))

    def without(self, patients: Sequence[str]) -> PatientHits:
        """The same without some of the patients."""
        stay = [row for row, name in enumerate(self.patients) if name not in patients]
        return PatientHits(tuple(self.patients[row] for row in stay), self.counts[stay], self.seeds)

    def same_cycles(self, other: PatientHits) -> bool:
        """Whether both were tested on as many cycles of the same patients."""
        own, others = self.counts[:, 1::2] * other.seeds, other.counts[:, 1::2] * self.seeds
        return self.patients == other.patients and np.array_equal(own, others)


def patient_hits(predicted: np.ndarray, labels: np.ndarray, patients: Sequence[str] | np.ndarray) -> PatientHits:
    """Count hits by patient.

    Args:
        predicted, labels: ``[cycles]`` class numbers; 0 is normal.
        patients: ``[cycles]`` patient of each cycle.
    """
    names, row = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return PatientHits(tuple(names.tolist()), hit_counts(predicted, labels, row, len(names)))


def hit_counts(predicted: np.ndarray, labels: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    """The four counts of `PatientHits`, ``[rows, 4]``, of cycles that are numbered by `row`."""
    hit, normal = predicted == labels, labels == 0
    columns = (hit & normal, normal, hit & ~normal, ~normal)
    return np.stack([np.bincount(row[column], minlength=rows) for column in columns], axis=1)


def over_seeds(hits: Sequence[PatientHits]) -> PatientHits:
    """The seeds' hits together: both rates are linear in them, so their Score is the mean of the seeds' Scores.

    Raises:
        ValueError: the seeds were not tested on the same cycles.
    """
    if not all(other.same_cycles(hits[0]) for other in hits[1:]):
        raise ValueError("the seeds were tested on different cycles")
    return PatientHits(hits[0].patients, np.sum([h.counts for h in hits], axis=0), sum(h.seeds for h in hits))


def pooled(folds: Sequence[PatientHits]) -> PatientHits:
    """All folds' cycles put together; a patient of two folds is counted in both."""
    patients = tuple(name for fold in folds for name in fold.patients)
    return PatientHits(patients, np.concatenate([fold.counts for fold in folds]), folds[0].seeds)


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


def bootstrap(entries: Sequence[Sequence[PatientHits]], resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Scores of resampled patients: drawn within each fold, then the mean over folds.

    All entries meet the same draws. A fold whose resample has no normal or no abnormal cycle is left out of that
    resample's mean; a resample that has no fold left is NaN. Both depend on the patients drawn, so they hold for all
    entries alike.

    Args:
        entries: ``[entries][folds]``, at least one, all tested on the same cycles.
        resamples, seed: of `draws`; fold k draws with ``seed + k``.

    Returns:
        ``[entries, resamples]``, float32.

    Raises:
        ValueError: two entries were not tested on the same cycles.
    """
    first = entries[0]
    for folds in entries[1:]:
        if len(folds) != len(first) or not all(a.same_cycles(b) for a, b in zip(folds, first, strict=True)):
            raise ValueError("the entries were tested on different cycles")
    samples = np.empty((len(entries), resamples), np.float32)
    by_fold = [_hits_of_fold([folds[index] for folds in entries]) for index in range(len(first))]
    for start in range(0, resamples, CHUNK):
        rows = slice(start, min(start + CHUNK, resamples))
        total = np.zeros((rows.stop - rows.start, len(entries)), np.float32)
        defined = np.zeros(len(total), np.float32)
        for index, (hits, cycles, seeds) in enumerate(by_fold):
            drawn = draws(len(hits), resamples, seed + index)[rows]
            asked = drawn @ cycles
            there = (asked > 0).all(axis=1)
            asked[~there] = np.inf  # both rates of such a resample become 0, and it is not counted
            for side in (0, 1):
                rates = drawn @ hits[:, side]
                rates /= asked[:, side, None] * seeds
                total += rates
            defined += there
        with np.errstate(invalid="ignore", divide="ignore"):
            total *= 50.0 / defined[:, None]
        samples[:, rows] = total.T
    return samples


def _hits_of_fold(entries: Sequence[PatientHits]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits ``[patients, 2, entries]``, cycles of one seed ``[patients, 2]`` and seeds ``[entries]``, all float32.

    The numbers are whole and far below 2^24, so products of them are exact. If all entries have as many seeds, their
    number stands once.
    """
    hits = np.stack([entry.counts[:, ::2] for entry in entries], axis=-1).astype(np.float32)
    cycles = (entries[0].counts[:, 1::2] / entries[0].seeds).astype(np.float32)
    seeds = np.array([entry.seeds for entry in entries], np.float32)
    return hits, cycles, seeds[:1] if (seeds == seeds[0]).all() else seeds


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
