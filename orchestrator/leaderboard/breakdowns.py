"""The test side in slices: by class, device, location, sex, age group and patient, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.leaderboard.schema import Slice
from orchestrator.leaderboard.statistics import SEED, draws, hit_counts, interval, scores

RESAMPLES = 1_000  # of a slice's interval: ten slices of ten thousand entries would take hours with ten thousand
UNKNOWN = "unknown"


def breakdowns(
    predicted: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    attributes: Mapping[str, np.ndarray],
    resamples: int = RESAMPLES,
) -> dict[str, list[Slice]]:
    """Every breakdown of an entry; folds are put together, and so are seeds.

    Args:
        predicted: ``[seeds, cycles]`` class numbers.
        labels: ``[cycles]``; 0 is normal.
        patients: ``[cycles]``.
        classes: names of the classes.
        attributes: breakdown -> ``[cycles]`` names, ``unknown`` where the corpus does not say.
        resamples: of the bootstrap over patients.

    Returns:
        ``class`` (recall), the given attributes (Score), and ``patient`` (Score, without an interval).
    """
    names, patient = np.unique(patients.astype(str), return_inverse=True)
    drawn = draws(len(names), resamples, SEED)
    found = {"class": _classes(predicted, labels, patient, classes, drawn)}
    for attribute, values in attributes.items():
        found[attribute] = _slices(predicted, labels, patient, values, drawn)
    found["patient"] = _slices(predicted, labels, patient, names[patient], drawn[:0])
    return found


def age_group(age: float | None) -> str:
    """The age group of a patient, in years."""
    if age is None or not np.isfinite(age):
        return UNKNOWN
    return "under 18" if age < 18 else "18 to 64" if age < 65 else "65 and over"


def _slices(
    predicted: np.ndarray, labels: np.ndarray, patient: np.ndarray, values: np.ndarray, drawn: np.ndarray
) -> list[Slice]:
    """Sp, Se and Score of the cycles that share a value; `unknown` comes last."""
    names, place = np.unique(values.astype(str), return_inverse=True)
    patients = int(patient.max()) + 1
    cell = place * patients + patient
    counts = sum(hit_counts(seed, labels, cell, len(names) * patients) for seed in predicted)
    counts = np.asarray(counts).reshape(len(names), patients, 4)
    samples = np.stack([scores(drawn @ of_slice.astype(np.float32)) for of_slice in counts])
    found = []
    for name, of_slice, resampled in zip(names.tolist(), counts, samples, strict=True):
        normal_hit, normal, abnormal_hit, abnormal = of_slice.sum(axis=0).tolist()
        specificity = 100.0 * normal_hit / normal if normal else None
        sensitivity = 100.0 * abnormal_hit / abnormal if abnormal else None
        defined = specificity is not None and sensitivity is not None
        there = int((of_slice[:, 1::2].sum(axis=1) > 0).sum())
        ends = interval(resampled) if defined and there > 1 else None
        found.append(
            Slice(
                name=name,
                cycles=(normal + abnormal) // len(predicted),
                patients=there,
                score=(specificity + sensitivity) / 2 if specificity is not None and sensitivity is not None else None,
                specificity=specificity,
                sensitivity=sensitivity,
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
            )
        )
    return sorted(found, key=lambda item: item.name == UNKNOWN)


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
