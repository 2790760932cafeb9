"""The test side in slices: by class, device, location, sex, age group and patient, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feature_store.metrics import USUAL, Metric, has_rates
from orchestrator.analysis.bootstrap import SEED, combined, counts_together, draws, hit_counts, interval, scores
from orchestrator.analysis.items import Slice

RESAMPLES = 1_000  # of a slice's interval: ten slices of ten thousand entries would take hours with ten thousand
UNKNOWN = "unknown"


def breakdowns(
    predicted: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    attributes: Mapping[str, np.ndarray],
    metric: Metric = USUAL,
    resamples: int = RESAMPLES,
) -> dict[str, list[Slice]]:
    """Every breakdown of an entry; folds are put together, and so are seeds.

    Args:
        predicted: ``[seeds, cycles]`` class numbers.
        labels: ``[cycles]``; 0 is normal.
        patients: ``[cycles]``.
        classes: names of the classes.
        attributes: breakdown -> ``[cycles]`` names, ``unknown`` where the corpus does not say.
        metric: what the entry is ranked by.
        resamples: of the bootstrap over patients.

    Returns:
        ``class`` (recall), the given attributes (the metric), and ``patient`` (the metric, without an interval).
    """
    names, patient = np.unique(patients.astype(str), return_inverse=True)
    drawn = draws(len(names), resamples, SEED)
    found = {"class": _classes(predicted, labels, patient, classes, drawn)}
    for attribute, values in attributes.items():
        found[attribute] = _slices(predicted, labels, patient, values, drawn, metric, len(classes))
    found["patient"] = _slices(predicted, labels, patient, names[patient], drawn[:0], metric, len(classes))
    return found


def age_group(age: float | None) -> str:
    """The age group of a patient, in years."""
    if age is None or not np.isfinite(age):
        return UNKNOWN
    return "under 18" if age < 18 else "18 to 64" if age < 65 else "65 and over"


def _slices(
    predicted: np.ndarray,
    labels: np.ndarray,
    patient: np.ndarray,
    values: np.ndarray,
    drawn: np.ndarray,
    metric: Metric,
    classes: int,
) -> list[Slice]:
    """The metric of the cycles that share a value, with Sp and Se where it is made of them; `unknown` comes last."""
    names, place = np.unique(values.astype(str), return_inverse=True)
    patients = int(patient.max()) + 1
    cell = place * patients + patient
    seeds = [hit_counts(seed, labels, cell, len(names) * patients, metric, classes) for seed in predicted]
    counts = counts_together(seeds, metric).reshape(len(names), patients, -1)
    sums, there = counts.sum(axis=1), np.count_nonzero(counts[:, :, 1::2].any(axis=2), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = 100.0 * sums[:, ::2] / sums[:, 1::2]
    found = np.nanmean(rates, axis=1) if metric == "uar" else combined(rates, metric)  # uar: of the classes that occur
    sides = rates.reshape(len(names), -1, 2).mean(axis=1) if has_rates(metric) else np.full((len(names), 2), np.nan)
    slices = []
    for row, name in enumerate(names.tolist()):
        ends = None
        if len(drawn) and np.isfinite(found[row]) and there[row] > 1:
            of_slice = counts[row]
            if metric == "uar":
                of_slice = of_slice[:, np.repeat(sums[row, 1::2] > 0, 2)]
            ends = interval(scores(drawn @ of_slice.astype(np.float32), metric))
        slices.append(
            Slice(
                name=name,
                cycles=int(sums[row, 1::2].sum()) // len(predicted),
                patients=int(there[row]),
                score=_known(found[row]),
                specificity=_known(sides[row, 0]),
                sensitivity=_known(sides[row, 1]),
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
            )
        )
    return sorted(slices, key=lambda item: item.name == UNKNOWN)


def _known(value: np.floating[Any]) -> float | None:
    """A number as Python's; None where it is not defined."""
    return float(value) if np.isfinite(value) else None


def _classes(
    predicted: np.ndarray, labels: np.ndarray, patient: np.ndarray, classes: Sequence[str], drawn: np.ndarray
) -> list[Slice]:
    """Recall of every class, in the order of the classes."""
    patients = int(patient.max()) + 1
    found = []
    for index, name in enumerate(classes):
        own = labels == index
        cycles = np.bincount(patient[own], minlength=patients) * len(predicted)
        hits = sum(np.bincount(patient[own & (seed == index)], minlength=patients) for seed in predicted)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = 100.0 * (drawn @ np.asarray(hits, np.float32)) / (drawn @ cycles.astype(np.float32))
        there = int((cycles > 0).sum())
        ends = interval(resampled) if there > 1 else None
        found.append(
            Slice(
                name=name,
                cycles=int(own.sum()),
                patients=there,
                recall=100.0 * float(np.sum(hits)) / float(cycles.sum()) if own.any() else None,
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
            )
        )
    return found
