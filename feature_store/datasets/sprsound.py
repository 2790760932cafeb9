"""SPRSound: children's lung sounds, annotated as whole recordings and by event (Zhang et al., 2022)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from feature_store.datasets.audio_header import read_header
from feature_store.datasets.base import Corpus, Cycle, Problem, Recording
from feature_store.errors import UserError
from feature_store.splits import SplitTable

STEM = re.compile(r"^(?P<patient>\d+)_(?P<age>\d+(\.\d+)?)_(?P<gender>[01])_(?P<location>p[1-4])_(?P<number>\d+)$")
DEVICE = "Yunting-II"
EVENTS = {
    "Normal": "normal", "Rhonchi": "rhonchi", "Wheeze": "wheeze", "Stridor": "stridor",
    "Coarse Crackle": "coarse_crackle", "Fine Crackle": "fine_crackle", "Wheeze+Crackle": "wheeze_crackle",
}  # fmt: skip
RECORDS = {"Normal": "normal", "CAS": "cas", "DAS": "das", "CAS & DAS": "cas_das", "Poor Quality": "poor_quality"}
RECORD_KEYS = ("record_annotation", "recording_annotation")
PARTS = ("train", "inter_test", "intra_test", "test")
"""What a folder's name says of the recordings in it; the first that it contains, from the inside out."""
SPLITS = {
    "official": ("inter_test", "intra_test"),
    "inter": ("inter_test",),
    "intra": ("intra_test",),
    "later": ("test",),
}


class Event(NamedTuple):
    """One annotated event: start and end in seconds, and its type as the file names it."""

    start: float
    end: float
    kind: str


class SprSoundCorpus(Corpus):
    """JSON files and WAV files of the same names, in the folders of the challenges: `train2022_json/` and so on.

    Every event is a cycle, with labels of the tasks `event2` and `event7` (tasks 1-1 and 1-2 of the challenges). After
    them the recording as a whole is one more, with labels of `record3` and `record5` (2-1 and 2-2). A cycle has no
    label for the other two tasks, so a training on one task sees its own kind alone.

    An event that ends after its recording is cut there. One that begins after it, or before it ends, makes the
    annotation unusable.
    """

    name = "sprsound"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "event2": ("normal", "adventitious"),
        "event7": tuple(EVENTS.values()),
        "record3": ("normal", "adventitious", "poor_quality"),
        "record5": tuple(RECORDS.values()),
    }

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recordings, self.problems = [], []
        self._sounds = {path.stem: path for path in sorted(self.root.rglob("*.wav"))}
        self._part_of: dict[str, str] = {}
        found = (path for path in sorted(self.root.rglob("*.json")) if STEM.match(path.stem))
        self._listed = [path for path in found if _part(path, self.root)]
        if not self._listed:
            hint = "it needs folders such as train2022_json with files such as 65058931_3.4_1_p2_1086.json"
            raise UserError("there is no annotation of SPRSound", where=str(root), hint=hint)
        for path in self._listed:
            self._read(path)
        self.recordings.sort(key=lambda recording: recording.name)

    @property
    def recordings_listed(self) -> int:
        """Annotations at hand, good or not."""
        return len(self._listed)

    def splits(self) -> dict[str, SplitTable]:
        """The published sides; only splits of which both are there.

        ``official``: 2022's training side and its whole test side. ``inter``: tested on other children alone.
        ``intra``: on the same children, which leaks as its makers meant it to. ``later``: on the test side of 2023.
        """
        sides: dict[str, list[str]] = {part: [] for part in PARTS}
        for recording in self.recordings:
            sides[self._part_of[recording.name]] += [cycle.cycle_id for cycle in recording.cycles]
        tested = {name: [cycle for part in parts for cycle in sides[part]] for name, parts in SPLITS.items()}
        return {
            name: SplitTable.of_sides(name, {0: {"train": sides["train"], "test": test}})
            for name, test in tested.items()
            if test and sides["train"]
        }

    # --- within ---

    def _read(self, path: Path) -> None:
        name = path.stem
        sound = self._sounds.get(name)
        if name in self._part_of:
            self._refuse(path, "there is another annotation of this recording", "keep one of the two")
        elif sound is None:
            self._refuse(path, f"there is no {name}.wav", "copy the folder of sounds, too")
        else:
            header, problems = read_header(sound)
            self.problems += problems
            if header is None or any(problem.severity == "error" for problem in problems):
                return
            try:
                record, events = read_annotation(path)
                events = self._within(events, header.seconds, path)
            except UserError as error:
                self._refuse(path, error.what, error.hint or "download it again")
                return
            self._part_of[name] = _part(path, self.root)
            self.recordings.append(_recording(name, sound, path, header.seconds, record, events))

    def _within(self, events: list[Event], seconds: float, path: Path) -> list[Event]:
        """The events cut at the recording's end.

        Raises:
            UserError: one begins after it.
        """
        late = [event for event in events if event.end > seconds]
        for number, event in enumerate(events, start=1):
            if event.start >= seconds:
                raise UserError(f"event {number} begins at {event.start:g} s, the recording ends at {seconds:g} s")
        if late:
            what = f"{len(late)} of {len(events)} events end after the recording ({late[-1].end:g} s of {seconds:g} s)"
            self.problems.append(Problem("warning", str(path), f"{what}: cut there"))
        return [event._replace(end=min(event.end, seconds)) for event in events]

    def _refuse(self, path: Path, what: str, hint: str) -> None:
        self.problems.append(Problem("error", str(path), what, hint))


def read_annotation(path: Path) -> tuple[str, list[Event]]:
    """A recording's type and its events, in the order of the file.

    Raises:
        UserError: the file is no JSON of this format, or has a type or a time that is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("event_annotation"), list):
        raise UserError("has no list event_annotation", where=str(path))
    record = next((content[key] for key in RECORD_KEYS if key in content), None)
    if record not in tuple(RECORDS):  # it may be anything, a list too
        raise UserError(f"its record_annotation is {record!r}", where=str(path), hint=f"known: {', '.join(RECORDS)}")
    return record, [_event(item, number, path) for number, item in enumerate(content["event_annotation"], start=1)]


def _event(item: Any, number: int, path: Path) -> Event:
    if not isinstance(item, Mapping) or item.get("type") not in tuple(EVENTS):
        kind = item.get("type") if isinstance(item, Mapping) else item
        raise UserError(f"event {number} is of type {kind!r}", where=str(path), hint=f"known: {', '.join(EVENTS)}")
    try:
        start, end = (float(item[key]) / 1000 for key in ("start", "end"))  # mostly text in the files
    except (KeyError, TypeError, ValueError):
        raise UserError(f"event {number} has no start and end in milliseconds", where=str(path)) from None
    if not (math.isfinite(end) and 0 <= start < end):
        raise UserError(f"event {number} runs from {start:g} to {end:g} s", where=str(path))
    return Event(start, end, item["type"])


def _recording(name: str, sound: Path, path: Path, seconds: float, record: str, events: list[Event]) -> Recording:
    found = STEM.match(name)
    assert found is not None
    place = (found["patient"], DEVICE, found["location"], "")
    classes = SprSoundCorpus.classes
    cycles = []
    for number, event in enumerate(events):
        kind = classes["event7"].index(EVENTS[event.kind])
        labels: dict[str, int | None] = {"event2": int(kind > 0), "event7": kind, "record3": None, "record5": None}
        cycles.append(Cycle(f"{name}#{number:03d}", name, *place, event.start, event.end, labels))
    kind = classes["record5"].index(RECORDS[record])
    quality = 2 if RECORDS[record] == "poor_quality" else int(kind > 0)
    whole: dict[str, int | None] = {"event2": None, "event7": None, "record3": quality, "record5": kind}
    cycles.append(Cycle(f"{name}#{len(events):03d}", name, *place, 0.0, seconds, whole))
    content = json.dumps([record, seconds, events])
    return Recording(name, *place, sound, path, tuple(cycles), hashlib.sha256(content.encode()).hexdigest())


def _part(path: Path, root: str | Path) -> str:
    """The side that the folders of an annotation say it is on; empty where they say none."""
    for folder in reversed(path.relative_to(root).parts[:-1]):
        for part in PARTS:
            if part in folder.lower():
                return part
    return ""
