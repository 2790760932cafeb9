"""SPRSound: children's lung sounds, annotated as whole recordings and by event (Zhang et al., 2022)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from feature_store.datasets.audio_header import read_header
from feature_store.datasets.base import Corpus, Cycle, Problem, Recording
from feature_store.datasets.text_tables import files_below, read_text
from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.splits import SplitTable

STEM = re.compile(r"^(?P<patient>\d*)_(?P<age>\d+(\.\d+)?)_(?P<gender>[01])_(?P<location>p[1-8])_(?P<number>\d+)$")
SEXES = {"0": "M", "1": "F"}
DEVICE = "Yunting-II"
EVENTS = {
    "Normal": "normal", "Rhonchi": "rhonchi", "Wheeze": "wheeze", "Stridor": "stridor",
    "Coarse Crackle": "coarse_crackle", "Fine Crackle": "fine_crackle", "Wheeze+Crackle": "wheeze_crackle",
}  # fmt: skip
RECORDS = {"Normal": "normal", "CAS": "cas", "DAS": "das", "CAS & DAS": "cas_das", "Poor Quality": "poor_quality"}
RECORD_KEYS = ("record_annotation", "recording_annotation")
PART = re.compile(r"train|inter_test|intra_test|test(\d{4})?")
"""What a folder's name says of the recordings in it; of nested folders the inner one counts."""
SPLITS = {
    "official": ("inter_test", "intra_test", "test2022"),
    "inter": ("inter_test",),
    "intra": ("intra_test",),
    "later": ("test2023", "test"),
}
"""Test parts of each split; further years are splits of their own."""


class Event(NamedTuple):
    """One annotated event: start and end in seconds, and its type as the file names it."""

    start: float
    end: float
    kind: str


class SprSoundCorpus(Corpus):
    """JSON files and WAV files of the same names, in the folders of the challenges: `train2022_json/` and so on.

    A name is patient, age, gender, place and number: `65058931_3.4_1_p2_1086`. Since 2024 some have no patient (then
    the recording stands in for one), there are four more places, and annotations have events alone.

    Every event is a cycle, with labels of the tasks `event2` and `event7` (tasks 1-1 and 1-2 of the challenges). After
    them the recording as a whole is one more, with labels of `record3` and `record5` (2-1 and 2-2). A cycle has no
    label for the other two tasks, so a training on one task sees its own kind alone.

    An event that ends after its recording is cut there, and one that ends before it begins is left out, as by the
    challenge's own reader. One that begins after its recording makes the annotation unusable.
    """

    name = "sprsound"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "event2": ("normal", "adventitious"),
        "event7": tuple(EVENTS.values()),
        "record3": ("normal", "adventitious", "poor_quality"),
        "record5": tuple(RECORDS.values()),
    }
    metrics: ClassVar[dict[str, Metric]] = {
        "event2": "sprsound",
        "event7": "sprsound",
        "record3": "sprsound_record",
        "record5": "sprsound_record",
    }

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recordings, self.problems = [], []
        self._sounds = {path.stem: path for path in files_below(self.root, {".wav"})}
        self._annotations: dict[str, Path] = {}
        self._listed = [path for path in files_below(self.root, {".json"}) if _part(path, self.root)]
        if not self._listed:
            hint = "it needs folders such as train2022_json with files such as 65058931_3.4_1_p2_1086.json"
            raise UserError("there is no annotation of SPRSound", where=str(root), hint=hint)
        for path in self._listed:
            self._read(path)
        annotated = {path.stem for path in self._listed}
        if lonely := [name for name, path in self._sounds.items() if name not in annotated and _part(path, self.root)]:
            what = f"sounds without an annotation: {len(lonely)}, the first is {lonely[0]}.wav"
            self.problems.append(Problem("warning", str(self.root), what, "copy the folders of annotations, too"))
        self.recordings.sort(key=lambda recording: recording.name)

    @property
    def recordings_listed(self) -> int:
        """Recordings with an annotation at hand, good or not."""
        return len({path.stem for path in self._listed})

    def splits(self) -> dict[str, SplitTable]:
        """The published sides; only splits of which both are there.

        ``official``: 2022's training side and its whole test side. ``inter``: tested on other children alone.
        ``intra``: on the same children, which leaks as its makers meant it to. ``later``: on the test side of 2023.
        ``later-<year>``: on that of a year after it.
        """
        sides: dict[str, list[str]] = {}
        for recording in self.recordings:
            part = _part(self._annotations[recording.name], self.root)
            sides.setdefault(part, []).extend(cycle.cycle_id for cycle in recording.cycles)
        train = sides.pop("train", [])
        known = {part for parts in SPLITS.values() for part in parts}
        tested = SPLITS | {part.replace("test", "later-"): (part,) for part in sorted(sides) if part not in known}
        return {
            name: SplitTable.of_sides(name, {0: {"train": train, "test": test}})
            for name, parts in tested.items()
            if train and (test := [cycle for part in parts for cycle in sides.get(part, ())])
        }

    def cycle_table(self) -> pa.Table:
        """One row a cycle, with `sex` (M or F) and `age` (years) of its child, as the recording's name has them."""
        table = super().cycle_table()
        named = [_named(recording) for recording in table["recording"].to_pylist()]
        table = table.append_column("sex", pa.array([SEXES[name["gender"]] for name in named], pa.string()))
        return table.append_column("age", pa.array([float(name["age"]) for name in named], pa.float64()))

    # --- within ---

    def _read(self, path: Path) -> None:
        name = path.stem
        sound = self._sounds.get(name)
        if not STEM.match(name):
            self._refuse(path, "the name is not patient_age_gender_place_number", "correct it, or remove the file")
        elif twin := self._annotations.get(name):
            if path.read_bytes() != twin.read_bytes() or _part(path, self.root) != _part(twin, self.root):
                self._refuse(path, f"there is another annotation of this recording, {twin}", "keep one of the two")
        elif sound is None:
            self._refuse(path, f"there is no {name}.wav", "copy the folder of sounds, too")
        else:
            header, problems = read_header(sound)
            self.problems += problems
            if header is None:
                return
            try:
                record, events = read_annotation(path)
                events = self._usable(events, header.seconds, path)
                if record is None and not events:
                    raise UserError("has neither a record_annotation nor an event")
            except UserError as error:
                self._refuse(path, error.what, error.hint or "download it again")
                return
            self._annotations[name] = path
            self.recordings.append(_recording(name, sound, path, header.seconds, record, events))

    def _usable(self, events: list[Event], seconds: float, path: Path) -> list[Event]:
        """The events that have a length, cut at the recording's end.

        Raises:
            UserError: one begins after it.
        """
        for number, event in enumerate(events, start=1):
            if event.start >= seconds:
                raise UserError(f"event {number} begins at {event.start:g} s, the recording ends at {seconds:g} s")
        kept = [event for event in events if event.start < event.end]
        if len(kept) < len(events):
            what = f"{len(events) - len(kept)} of {len(events)} events do not end after they begin: left out"
            self.problems.append(Problem("warning", str(path), what))
        if late := [event for event in kept if event.end > seconds]:
            what = f"{len(late)} of {len(events)} events end after the recording ({late[-1].end:g} s of {seconds:g} s)"
            self.problems.append(Problem("warning", str(path), f"{what}: cut there"))
        return [event._replace(end=min(event.end, seconds)) for event in kept]


def read_annotation(path: Path) -> tuple[str | None, list[Event]]:
    """A recording's type, None where the file has events alone, and its events, in the order of the file.

    Raises:
        UserError: the file is no JSON of this format, or has a type or a time that is none.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("event_annotation"), list):
        raise UserError("has no list event_annotation", where=str(path))
    key = next((key for key in RECORD_KEYS if key in content), None)
    record = content[key] if key else None
    if key and record not in tuple(RECORDS):  # it may be anything, a list too
        raise UserError(f"its {key} is {record!r}", where=str(path), hint=f"known: {', '.join(RECORDS)}")
    return record, [_event(item, number, path) for number, item in enumerate(content["event_annotation"], start=1)]


def _event(item: Any, number: int, path: Path) -> Event:
    if not isinstance(item, Mapping) or item.get("type") not in tuple(EVENTS):
        kind = item.get("type") if isinstance(item, Mapping) else item
        raise UserError(f"event {number} is of type {kind!r}", where=str(path), hint=f"known: {', '.join(EVENTS)}")
    try:
        start, end = (float(item[key]) / 1000 for key in ("start", "end"))  # mostly text in the files
    except (KeyError, TypeError, ValueError):
        raise UserError(f"event {number} has no start and end in milliseconds", where=str(path)) from None
    if not (0 <= start < math.inf and 0 <= end < math.inf):
        raise UserError(f"event {number} runs from {start:g} to {end:g} s", where=str(path))
    return Event(start, end, item["type"])


def _recording(
    name: str, sound: Path, path: Path, seconds: float, record: str | None, events: list[Event]
) -> Recording:
    named = _named(name)
    place = (named["patient"] or name, DEVICE, named["location"], "")
    classes = SprSoundCorpus.classes
    cycles: list[Cycle] = []
    for event in events:
        kind = classes["event7"].index(EVENTS[event.kind])
        labels: dict[str, int | None] = {"event2": int(kind > 0), "event7": kind, "record3": None, "record5": None}
        cycles.append(Cycle(f"{name}#{len(cycles):03d}", name, *place, event.start, event.end, labels))
    if record is not None:
        kind = classes["record5"].index(RECORDS[record])
        quality = 2 if RECORDS[record] == "poor_quality" else int(kind > 0)
        whole: dict[str, int | None] = {"event2": None, "event7": None, "record3": quality, "record5": kind}
        cycles.append(Cycle(f"{name}#{len(cycles):03d}", name, *place, 0.0, seconds, whole))
    content = json.dumps([record, seconds, events])
    return Recording(name, *place, sound, path, tuple(cycles), hashlib.sha256(content.encode()).hexdigest())


def _named(recording: str) -> re.Match[str]:
    """The fields of a recording's name."""
    found = STEM.match(recording)
    assert found is not None
    return found


def _part(path: Path, root: Path) -> str:
    """The side that the folders of a file say it is on; empty where they say none."""
    for folder in reversed(path.relative_to(root).parts[:-1]):
        if found := PART.search(folder.lower()):
            return found[0]
    return ""
