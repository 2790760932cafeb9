"""What a board is about: its data, the warnings before any number, its name and its place on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feature_store.counted import counted
from feature_store.metrics import USUAL
from orchestrator.analysis.groups import Cohort, grouped
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Data

# The order on the page.
SPLITS = (
    "official",
    "official-no-overlap",
    "official-patient-test",
    "compat-official-patient-expanded",
    "five-fold",
)

SHOWN = 5  # patients that a warning names


def test_sides(cohort: Cohort, runs: Sequence[Run]) -> list[tuple[Any, int, int]]:
    """(group, test cycles, test patients) of every config's seed, summed over the folds it has."""
    by_seed = grouped(runs, lambda run: (run.key.config_hash, run.key.data_hash, run.key.semantics, run.key.seed))
    return [
        (key, sum(run.test_cycles for run in same), sum(run.test_patients for run in same))
        for key, same in sorted(by_seed.items())
    ]


def data_of(cohort: Cohort, runs: Sequence[Run]) -> Data:
    sides = test_sides(cohort, runs)
    return Data(
        dataset=cohort.dataset,
        task=cohort.task,
        split=cohort.split,
        split_hash=cohort.split_hash,
        classes=list(cohort.classes),
        synthetic=cohort.synthetic,
        recordings=cohort.recordings,
        recordings_listed=cohort.recordings_listed,
        test_cycles=max(cycles for _, cycles, _ in sides),
        test_patients=max(patients for _, _, patients in sides),
        patients_on_both_sides=sorted({patient for run in runs for patient in run.both_sides}),
        sounds_on_both_sides=sorted({name for run in runs for name in run.sounds_on_both_sides}),
        sounds_in_doubt=sorted({name for run in runs for name in run.sounds_in_doubt}),
        split_sources=sorted({run.split_source for run in runs if run.split_source}),
    )


def warnings_of(data: Data) -> list[str]:
    """What a reader must know before any number of the board."""
    found = []
    if data.synthetic:
        found.append(
            "Synthetic sounds: these Scores show that everything works, and say nothing about lungs. "
            "Never put them beside published ones."
        )
    elif data.partial:
        found.append(
            f"Partial database: {data.recordings} of {counted(data.recordings_listed, 'recording')}. "
            "Scores on a part must not be compared with published ones as if it were the whole."
        )
    if data.patients_on_both_sides:
        shared = data.patients_on_both_sides
        names = " and ".join(shared) if len(shared) <= SHOWN else f"{len(shared)}, the first is {shared[0]}"
        found.append(f"Patients on both sides of the split: {names}. A split without them is a board of its own.")
    if copies := data.sounds_on_both_sides:
        tested = counted(len(copies), "tested recording is", "tested recordings are")
        found.append(
            f"Sounds on both sides of the split under two names: {tested} trained on, the first is {copies[0]}."
        )
    if doubtful := data.sounds_in_doubt:
        count = counted(len(doubtful), "recording")
        found.append(f"Sounds under two patients or two labels: {count}, the first is {doubtful[0]}.")
    found += [f"The official split: {source}." for source in data.split_sources]
    return found


def order(cohort: Cohort) -> tuple[Any, ...]:
    """Real data before synthetic, the larger part of a database before the smaller, the usual splits first."""
    place = next((i for i, name in enumerate(SPLITS) if cohort.split == name), len(SPLITS))
    return (
        cohort.synthetic,
        cohort.dataset,
        cohort.task,
        place,
        cohort.split,
        -cohort.recordings,
        cohort.split_hash,
        cohort.recordings_listed,
        cohort.metric,
    )


def slug(cohort: Cohort) -> str:
    """The board's anchor on the page, and the name of its document: the digest keeps any two apart."""
    extent = f"{cohort.recordings}-of-{cohort.recordings_listed}"
    parts = [cohort.dataset, cohort.task, cohort.split, extent, cohort.digest[:8]]
    if cohort.metric != USUAL:
        parts.append(cohort.metric)
    return "-".join([*parts, *(["synthetic"] if cohort.synthetic else [])])
