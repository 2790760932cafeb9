"""What there is in a corpus and what is wrong with it: counts, labels by split, device and fold, and leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from feature_store.audio_hashes import hash_audio
from feature_store.datasets.base import Corpus, Cycle, Problem, SideCounts
from feature_store.datasets.contract import splits_of
from feature_store.errors import UserError
from feature_store.same_sounds import SameSound, same_sounds
from feature_store.splits import SIDES, SplitTable

Labels = dict[str, dict[str, int]]  # task -> class -> cycles


class Side(BaseModel):
    """One side of one fold: its patients, recordings, cycles, and cycles of each class of each task."""

    split: str
    fold: int
    side: str
    patients: int
    recordings: int
    cycles: int
    labels: Labels


class DeviceSide(BaseModel):
    """What one recording device gave to one side of one fold."""

    split: str
    fold: int
    side: str
    device: str
    patients: int
    recordings: int
    cycles: int


class SharedPatient(BaseModel):
    """A patient on both sides of a fold, with how much of it is on each."""

    patient: str
    train_recordings: int
    train_cycles: int
    test_recordings: int
    test_cycles: int


class Overlap(BaseModel):
    """Leakage of one fold: patients on both sides, and recordings that are in both with all their cycles."""

    split: str
    fold: int
    patients: list[SharedPatient]
    recordings_on_both_sides: int


class SharedSound(BaseModel):
    """Recordings whose audio files have one content, and the folds (`official, fold 0`) that have it on both sides."""

    recordings: list[str]
    patients: list[str]
    labels_differ: bool
    on_both_sides: list[str]


class Comparison(BaseModel):
    """A side's counts beside the published ones: patients, recordings, cycles and cycles by class."""

    split: str
    fold: int
    side: str
    expected: list[int]
    found: list[int]

    @property
    def agrees(self) -> bool:
        return self.expected == self.found


class ProblemRow(BaseModel):
    """A `Problem` as it is in the report."""

    severity: Literal["error", "warning"]
    where: str
    what: str
    hint: str


class AuditReport(BaseModel):
    """Everything that `lungtune data check` says.

    Attributes:
        stands_in: what is counted as a patient where the corpus names none; else empty.
        complete: whether every listed recording is here and good.
        audio: whether there is audio, or annotations alone.
        totals: label counts of all cycles; a cycle without a label of a task is counted under ``unlabelled``.
        sides, devices, overlaps: by split and fold, in the order of the corpus' splits.
        split_source: what must be known of the list of the official split; empty for the corpus' own, as published.
        shared_sounds: one sound under several names.
        published: the corpus against its published counts; empty for a partial or unknown one.
    """

    dataset: str
    root: str
    stands_in: str
    synthetic: bool
    audio: bool
    complete: bool
    recordings: int
    recordings_listed: int
    patients: int
    cycles: int
    totals: Labels
    all_devices: list[DeviceSide]
    sides: list[Side]
    devices: list[DeviceSide]
    overlaps: list[Overlap]
    split_source: str
    shared_sounds: list[SharedSound]
    published: list[Comparison]
    problems: list[ProblemRow]

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def completeness(self) -> str:
        """`complete: all 920` or `partial: 199 of 920`."""
        if self.complete:
            return f"complete: all {self.recordings:,}"
        return f"partial: {self.recordings:,} of {self.recordings_listed:,}"


def audit(corpus: Corpus) -> AuditReport:
    """Count and check a corpus. Problems of the splits and wrong counts are added to the corpus' own problems."""
    problems = list(corpus.problems)
    cycles = {cycle.cycle_id: cycle for cycle in corpus.cycles()}
    try:
        splits = splits_of(corpus)
    except UserError as error:
        splits = {}
        if not any(error.where == problem.where and problem.severity == "error" for problem in problems):
            problems.append(Problem("error", error.where or str(corpus.root), error.what, error.hint or ""))
    sides, devices, overlaps = [], [], []
    hashes, unreadable = hash_audio(corpus.recordings)
    problems += unreadable
    sounds = {sound: list[str]() for sound in same_sounds(cycles.values(), hashes)}
    for split in splits.values():
        for fold in split.folds():
            on = {side: [cycles[c] for c in split.side(fold, side)] for side in SIDES}
            sides += [_side(corpus, split, fold, side, on[side]) for side in SIDES]
            devices += [row for side in SIDES for row in _devices(split.name, fold, side, on[side])]
            overlaps.append(_overlap(split, fold, on["train"], on["test"]))
            train, test = ({cycle.recording for cycle in on[side]} for side in SIDES)
            for sound, folds in sounds.items():
                if sound.crosses(train, test):
                    folds.append(f"{split.name}, fold {fold}")
    published = _published(corpus, sides)
    problems += [_disagreement(corpus, row) for row in published if not row.agrees]
    problems += [_shared(corpus, sound, folds) for sound, folds in sounds.items()]
    return AuditReport(
        dataset=corpus.name,
        root=str(corpus.root),
        stands_in=corpus.stands_in,
        audio=any(recording.audio for recording in corpus.recordings),
        complete=0 < corpus.recordings_listed <= len(corpus.recordings),
        totals=_labels(corpus, cycles.values()),
        all_devices=_devices("", 0, "", cycles.values()),
        sides=sides,
        devices=devices,
        overlaps=overlaps,
        split_source=corpus.split_source,
        shared_sounds=[
            SharedSound(
                recordings=list(sound.recordings),
                patients=list(sound.patients),
                labels_differ=sound.labels_differ,
                on_both_sides=folds,
            )
            for sound, folds in sounds.items()
        ],
        published=published,
        problems=[ProblemRow(severity=p.severity, where=p.where, what=p.what, hint=p.hint) for p in problems],
        **corpus.summary(),
    )


def _side(corpus: Corpus, split: SplitTable, fold: int, side: str, cycles: list[Cycle]) -> Side:
    return Side(split=split.name, fold=fold, side=side, labels=_labels(corpus, cycles), **_sizes(cycles))


def _sizes(cycles: list[Cycle]) -> dict[str, int]:
    patients, recordings = {cycle.patient for cycle in cycles}, {cycle.recording for cycle in cycles}
    return {"patients": len(patients), "recordings": len(recordings), "cycles": len(cycles)}


def _labels(corpus: Corpus, cycles: Iterable[Cycle]) -> Labels:
    cycles = list(cycles)
    labels: Labels = {}
    for task, classes in corpus.classes.items():
        counts = Counter(cycle.labels.get(task) for cycle in cycles)
        labels[task] = {name: counts[index] for index, name in enumerate(classes)}
        if counts[None]:
            labels[task]["unlabelled"] = counts[None]
    return labels


def _devices(split: str, fold: int, side: str, cycles: Iterable[Cycle]) -> list[DeviceSide]:
    by_device: dict[str, list[Cycle]] = {}
    for cycle in cycles:
        by_device.setdefault(cycle.device, []).append(cycle)
    return [
        DeviceSide(split=split, fold=fold, side=side, device=device, **_sizes(by_device[device]))
        for device in sorted(by_device)
    ]


def _overlap(split: SplitTable, fold: int, train: list[Cycle], test: list[Cycle]) -> Overlap:
    shared = sorted({c.patient for c in train} & {c.patient for c in test})
    rows = []
    for patient in shared:
        on = [_sizes([c for c in side if c.patient == patient]) for side in (train, test)]
        rows.append(
            SharedPatient(
                patient=patient,
                train_recordings=on[0]["recordings"],
                train_cycles=on[0]["cycles"],
                test_recordings=on[1]["recordings"],
                test_cycles=on[1]["cycles"],
            )
        )
    twice = {c.recording for c in train} & {c.recording for c in test}
    return Overlap(split=split.name, fold=fold, patients=rows, recordings_on_both_sides=len(twice))


def _published(corpus: Corpus, sides: list[Side]) -> list[Comparison]:
    task = next(iter(corpus.classes))
    found = {
        (s.split, s.fold, s.side): SideCounts(s.patients, s.recordings, s.cycles, tuple(s.labels[task].values()))
        for s in sides
    }
    return [
        Comparison(split=key[0], fold=key[1], side=key[2], expected=_flat(expected), found=_flat(found[key]))
        for key, expected in corpus.published_counts().items()
        if key in found
    ]


def _flat(counts: SideCounts) -> list[int]:
    return [counts.patients, counts.recordings, counts.cycles, *counts.classes]


def _disagreement(corpus: Corpus, row: Comparison) -> Problem:
    what = f"counts {row.found} where the published database has {row.expected} (patients, recordings, cycles, classes)"
    where = f"split '{row.split}', fold {row.fold}, {row.side}"
    return Problem("error", where, what, f"an annotation or a list of {corpus.root} is not the published one")


def _shared(corpus: Corpus, sound: SameSound, folds: list[str]) -> Problem:
    audio = {recording.name: recording.audio for recording in corpus.recordings}
    first, *others = sound.recordings
    found = [f"has the same sound as {', '.join(others)}"]
    if len(sound.patients) > 1:
        found.append(f"under {len(sound.patients)} patients ({', '.join(sound.patients)})")
    if sound.labels_differ:
        found.append("with other labels or times")
    if folds:
        found.append(f"on both sides of {folds[0]}" + (f" and {len(folds) - 1} more" if len(folds) > 1 else ""))
    hint = "keep one of them, or leave both out where nobody knows which is right"
    return Problem("warning", str(audio[first]), ", ".join(found), hint)
