"""How far a number can be trusted: bootstrap over patients, mean and deviation over seeds.

Cycles of one patient sound alike, so the patient is what is drawn again, never the cycle.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.metrics import SPRSOUND, USUAL, Metric
from workers.evaluation import sprsound_score

RESAMPLES = 10_000
SEED = 20170
LEVEL = 0.95
CHUNK = 250  # resamples computed at once: bounds the memory, changes no number


@dataclass(frozen=True)
class PatientHits:
    """Hits and cycles of every patient, from which each resample's value of a metric follows by one matrix product.

    A metric is made of the rates of groups of cycles: of the normal and of the abnormal ones (`icbhi4`, `icbhi2`,
    `sprsound`), of all together (`accuracy`), of each class (`uar`).

    Attributes:
        patients: sorted.
        counts: ``[patients, 2 groups]``, for each group the cycles hit and the cycles, summed over seeds. Whole
            numbers, so that equal values are equal to the last bit. `sprsound` is no mean of its rates, so there the
            seeds stand beside each other: ``[patients, 4 seeds]``.
        seeds: how many seeds were summed.
        metric: what the counts are of.
    """

    patients: tuple[str, ...]
    counts: np.ndarray
    seeds: int = 1
    metric: Metric = USUAL

    @property
    def score(self) -> float:
        """The metric in percent of all patients together, as `workers.evaluation` has it.

        A rate over no cycle is 0; the mean recall is that of the classes that occur.
        """
        hits, cycles = self.counts.sum(axis=0).reshape(-1, 2).T
        rates = hits / np.maximum(cycles, 1)
        return 100.0 * float(combined(rates[cycles > 0] if self.metric == "uar" else rates, self.metric))

    @property
    def cycles(self) -> np.ndarray:
        """Cycles of one seed, ``[patients, groups]``."""
        cycles = self.counts[:, 1::2] // self.seeds
        return cycles[:, :2] if self.metric in SPRSOUND else cycles

    def without(self, patients: Sequence[str]) -> PatientHits:
        """The same without some of the patients."""
        stay = [row for row, name in enumerate(self.patients) if name not in patients]
        return PatientHits(tuple(self.patients[row] for row in stay), self.counts[stay], self.seeds, self.metric)

    def same_cycles(self, other: PatientHits) -> bool:
        """Whether both were tested on as many cycles of the same patients, by the same metric."""
        if (self.patients, self.metric) != (other.patients, other.metric):
            return False
        return np.array_equal(self.cycles, other.cycles)


def patient_hits(
    predicted: np.ndarray,
    labels: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    metric: Metric = USUAL,
    classes: int = 0,
) -> PatientHits:
    """Count hits by patient.

    Args:
        predicted, labels: ``[cycles]`` class numbers; 0 is normal.
        patients: ``[cycles]`` patient of each cycle.
        metric: what to count for.
        classes: how many there are; only `uar` and `sprsound_record` ask.
    """
    names, row = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = hit_counts(predicted, labels, row, len(names), metric, classes)
    return PatientHits(tuple(names.tolist()), counts, metric=metric)


def hit_counts(
    predicted: np.ndarray, labels: np.ndarray, row: np.ndarray, rows: int, metric: Metric = USUAL, classes: int = 0
) -> np.ndarray:
    """The counts of `PatientHits`, ``[rows, 2 groups]``, of cycles that are numbered by `row`."""
    if metric == "sprsound_record":  # records of poor quality, the last class, are in no rate
        kept = labels != classes - 1
        predicted, labels, row = predicted[kept], labels[kept], row[kept]
    groups = {"accuracy": 1, "uar": classes}.get(metric, 2)
    group = {"accuracy": np.zeros_like(labels), "uar": labels}.get(metric, labels > 0)
    hit = (predicted > 0) == (labels > 0) if metric == "icbhi2" else predicted == labels
    cell = row * groups + group
    counts = [np.bincount(cells, minlength=rows * groups) for cells in (cell[hit], cell)]
    return np.stack(counts, axis=-1).reshape(rows, 2 * groups)


def counts_together(seeds: Sequence[np.ndarray], metric: Metric) -> np.ndarray:
    """The seeds' counts together: summed where the metric is linear in them, else beside each other."""
    return np.concatenate(seeds, axis=-1) if metric in SPRSOUND else np.sum(seeds, axis=0)


def over_seeds(hits: Sequence[PatientHits]) -> PatientHits:
    """The seeds' hits together: their value is the mean of the seeds' values.

    Raises:
        ValueError: the seeds were not tested on the same cycles.
    """
    first = hits[0]
    if not all(other.same_cycles(first) for other in hits[1:]):
        raise ValueError("the seeds were tested on different cycles")
    counts = counts_together([h.counts for h in hits], first.metric)
    summed = 1 if first.metric in SPRSOUND else sum(h.seeds for h in hits)
    return PatientHits(first.patients, counts, summed, first.metric)


def pooled(folds: Sequence[PatientHits]) -> PatientHits:
    """All folds' cycles put together; a patient of two folds is counted in both."""
    patients = tuple(name for fold in folds for name in fold.patients)
    counts = np.concatenate([fold.counts for fold in folds])
    return PatientHits(patients, counts, folds[0].seeds, folds[0].metric)


def combined(rates: np.ndarray, metric: Metric) -> np.ndarray:
    """The metric of the rates of its groups ``[..., groups]``, in their unit."""
    values = sprsound_score(rates[..., ::2], rates[..., 1::2]) if metric in SPRSOUND else rates
    return values.mean(axis=-1)


def scores(counts: np.ndarray, metric: Metric = USUAL) -> np.ndarray:
    """The metric in percent from counts ``[..., 2 groups]``; NaN where one of the rates has no cycle."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100.0 * combined(counts[..., ::2] / counts[..., 1::2], metric)


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
    """The metric of resampled patients: drawn within each fold, then the mean over folds.

    All entries meet the same draws. A fold whose resample lacks a group (no normal or no abnormal cycle; for `uar` a
    class that the fold has) is left out of that resample's mean; a resample that has no fold left is NaN. Both depend
    on the patients drawn, so they hold for all entries alike.

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
    by_fold = [_Fold.of([folds[index] for folds in entries]) for index in range(len(first))]
    for start in range(0, resamples, CHUNK):
        rows = slice(start, min(start + CHUNK, resamples))
        total = np.zeros((rows.stop - rows.start, len(entries)), np.float32)
        defined = np.zeros(len(total), np.float32)
        for index, fold in enumerate(by_fold):
            drawn = draws(len(fold.cycles), resamples, seed + index)[rows]
            asked = drawn @ fold.cycles
            there = (asked > 0).all(axis=1)
            asked[~there] = np.inf  # all rates of such a resample become 0, and it is not counted
            for part in fold.parts(drawn, asked):
                total += part
            defined += there
        with np.errstate(invalid="ignore", divide="ignore"):
            total *= 100.0 / defined[:, None]
        samples[:, rows] = total.T
    return samples


@dataclass(frozen=True)
class _Fold:
    """One fold of all entries, float32. The numbers are whole and far below 2^24, so products of them are exact.

    Attributes:
        hits: ``[groups, patients, columns]``: a column per entry; for `sprsound` one for each of its seeds.
        cycles: ``[patients, groups]`` of one seed.
        seeds: how many were summed, ``[columns]``, or ``[1]`` where all columns have as many.
        columns: of each entry, for `sprsound`.
    """

    hits: np.ndarray
    cycles: np.ndarray
    seeds: np.ndarray
    columns: tuple[int, ...]
    metric: Metric

    @classmethod
    def of(cls, entries: Sequence[PatientHits]) -> _Fold:
        metric, cycles = entries[0].metric, entries[0].cycles
        groups = cycles.shape[1]
        there = cycles.any(axis=0) if metric == "uar" else np.ones(groups, bool)
        hits = np.concatenate([entry.counts[:, ::2].reshape(len(cycles), -1, groups) for entry in entries], axis=1)
        columns = tuple(entry.counts.shape[1] // (2 * groups) for entry in entries)
        seeds = np.array([entry.seeds for entry in entries], np.float32)
        return cls(
            np.ascontiguousarray(hits[:, :, there].transpose(2, 0, 1), np.float32),
            cycles[:, there].astype(np.float32),
            seeds[:1] if (seeds == seeds[0]).all() else seeds,
            columns,
            metric,
        )

    def parts(self, drawn: np.ndarray, asked: np.ndarray) -> Iterator[np.ndarray]:
        """Arrays ``[resamples, entries]`` whose sum is the metric as a rate 0..1.

        Args:
            drawn: ``[resamples, patients]``, how often each is drawn.
            asked: ``[resamples, groups]``, cycles drawn.
        """
        rates = (drawn @ hits / (cycles[:, None] * self.seeds) for hits, cycles in zip(self.hits, asked.T, strict=True))
        if self.metric in SPRSOUND:
            starts = np.cumsum((0, *self.columns[:-1]))
            yield np.add.reduceat(sprsound_score(*rates), starts, axis=1) / np.array(self.columns, np.float32)
        else:
            yield from (rate / len(self.hits) for rate in rates)


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
