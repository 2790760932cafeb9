"""The named splits of ICBHI, made from the official list of recordings and the published list of folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from feature_store.datasets.base import Recording
from feature_store.splits import COMPAT, SplitTable


def official_splits(
    recordings: Iterable[Recording], sides: Mapping[str, str], folds: Mapping[str, int]
) -> dict[str, SplitTable]:
    """The official split, its variants, and the five folds where there is a list of them.

    Args:
        recordings: the good ones.
        sides: ``train`` or ``test`` of each recording that the official list has, at hand or not.
        folds: of each patient; may be empty.
    """
    recordings = list(recordings)
    tested = {_patient(name) for name, side in sides.items() if side == "test"}
    official = _split("official", recordings, lambda r: sides[r.name])
    no_overlap = _split(
        "official-no-overlap",
        recordings,
        lambda r: None if sides[r.name] == "train" and r.patient in tested else sides[r.name],
    )
    patient_test = _split("official-patient-test", recordings, lambda r: "test" if r.patient in tested else "train")
    splits = {split.name: split for split in (official, no_overlap, patient_test)}
    if folds:
        splits["five-fold"] = five_folds(recordings, folds)
    leaking = patient_expanded(recordings, sides)
    return splits | {leaking.name: leaking}


def patient_expanded(recordings: Iterable[Recording], sides: Mapping[str, str]) -> SplitTable:
    """A defect of the CycleGuardian system, kept for comparison: the official split, expanded to patients.

    Every patient with a training recording is in train with all recordings, and likewise for test, so 25
    recordings (237 cycles) of patients 156 and 218 are in both. It leaks: never rank a number made with it.
    """
    recordings = list(recordings)
    on = {side: {_patient(name) for name, s in sides.items() if s == side} for side in ("train", "test")}
    ids = {side: [c.cycle_id for r in recordings if r.patient in on[side] for c in r.cycles] for side in on}
    return SplitTable.of_sides(f"{COMPAT}official-patient-expanded", {0: ids})


def five_folds(recordings: Iterable[Recording], folds: Mapping[str, int]) -> SplitTable:
    """Fold k tests the patients of fold k and trains on the others; a patient without a fold is in none."""
    cycles = [(c.cycle_id, folds[c.patient]) for r in recordings for c in r.cycles if c.patient in folds]
    return SplitTable.of_sides(
        "five-fold",
        {
            fold: {"train": [c for c, f in cycles if f != fold], "test": [c for c, f in cycles if f == fold]}
            for fold in sorted(set(folds.values()))
        },
    )


def _split(name: str, recordings: Iterable[Recording], side_of: Callable[[Recording], str | None]) -> SplitTable:
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for recording in recordings:
        side = side_of(recording)
        if side:
            sides[side] += [cycle.cycle_id for cycle in recording.cycles]
    return SplitTable.of_sides(name, {0: sides})


def _patient(name: str) -> str:
    return name.split("_", 1)[0]
