"""What every corpus gives: recordings with their annotated cycles, problems found on the way, and named splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa

from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.splits import SplitTable

SYNTHETIC_MARK = "SYNTHETIC"

SideKey = tuple[str, int, str]  # split, fold, side
EVENT_KINDS = ("crackle", "wheeze")


class SideCounts(NamedTuple):
    """Size of one side of a fold: patients, recordings, cycles, and cycles of each class of the corpus' first task."""

    patients: int
    recordings: int
    cycles: int
    classes: tuple[int, ...]


class Event(NamedTuple):
    """An annotated sound within a recording: from start to end in seconds, and one of `EVENT_KINDS`."""

    recording: str
    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class Cycle:
    """One annotated respiratory cycle: the sample that is classified.

    Attributes:
        cycle_id: ``<recording>#<index>``, the index with three digits, counted from 0 in the order of the annotation.
        start: beginning in seconds from the start of the recording.
        end: end in seconds, greater than start.
        labels: class index of each task; None where the corpus does not say.
    """

    cycle_id: str
    recording: str
    patient: str
    device: str
    location: str
    mode: str
    start: float
    end: float
    labels: dict[str, int | None]


@dataclass(frozen=True)
class Recording:
    """One audio file of one patient, with its cycles in the order of the annotation.

    Attributes:
        name: the recording's name in its corrected spelling, without suffix.
        audio: the audio file; None where only the annotation is at hand.
        annotation: the file that the cycles were read from.
        annotation_hash: SHA-256 of the annotation's content (times, labels and `table`), independent of spelling and
            line ends.
        table: numbers that the corpus knows of the recording beside its sound, for features with a `table`; or none.
    """

    name: str
    patient: str
    device: str
    location: str
    mode: str
    audio: Path | None
    annotation: Path | None
    cycles: tuple[Cycle, ...]
    annotation_hash: str
    table: tuple[float, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something wrong in a corpus. An ``error`` leaves a recording out, a ``warning`` only tells.

    Attributes:
        where: the file, with its row where there is one.
        what: what is wrong.
        hint: what to do about it; empty where nothing needs doing.
    """

    severity: Literal["error", "warning"]
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(frozen=True)
class Contest:
    """Clips without labels that a contest wants classified, and how it wants to be told.

    Attributes:
        columns: of the submission: the clip's name, its class; None where it has no header.
        clips: each clip's name in the contest's list, in its order, and its audio.
        codes: how each class of a task is written.
        tables: as `Recording.table`, by the clips' names.
        line_end: what ends a line of the submission.
    """

    columns: tuple[str, str] | None
    clips: tuple[tuple[str, Path], ...]
    codes: dict[str, tuple[str, ...]]
    tables: dict[str, tuple[float, ...]] = field(default_factory=dict)
    line_end: str = "\n"


class Corpus(ABC):
    """A database of recordings on disk. Reading it never stops at a bad file: it is named in `problems` and left out.

    To add a corpus, put one module with one subclass into this package, or name the class in an entry point of
    the group ``lungtune.corpora``.

    Attributes:
        name: the word on the command line and the folder in the store.
        classes: class names of each task; the class index of a label points into them, index 0 is the normal class.
        metrics: what a task's published results are ranked by, where it is not `icbhi4`.
        table_format: what reads the lists of its recordings' tables (see `feature_store.recording_tables`); or none.
        stands_in: what is taken for a patient in a corpus that names none, as in "a source recording".
        split_source: what must be known of the list that the official split is made from; empty for its own, as
            published.
        root: the folder that was opened.
        recordings: the good recordings, sorted by name.
        problems: everything that is wrong, in the order it was found.
    """

    name: ClassVar[str]
    classes: ClassVar[dict[str, tuple[str, ...]]]
    metrics: ClassVar[dict[str, Metric]] = {}
    table_format: ClassVar[ModuleType | None] = None
    stands_in: ClassVar[str] = ""
    split_source: str = ""
    root: Path
    recordings: list[Recording]
    problems: list[Problem]

    @abstractmethod
    def __init__(self, root: str | Path) -> None:
        """Read the corpus at `root`.

        Raises:
            UserError: there is no corpus of this kind at `root`.
        """

    @abstractmethod
    def splits(self) -> dict[str, SplitTable]:
        """Every named split of the cycles of `recordings`.

        Raises:
            UserError: a file that the splits are made from is missing or unusable.
        """

    def published_counts(self) -> dict[SideKey, SideCounts]:
        """Counts that the corpus at hand must reproduce, where they are known; the audit compares them."""
        return {}

    def contest(self) -> Contest:
        """The clips of a contest that go with the corpus.

        Raises:
            UserError: there is no contest, or its list or a clip of it cannot be used.
        """
        raise UserError(f"'{self.name}' is no contest's: there is nothing to submit", where=str(self.root))

    @property
    def recordings_listed(self) -> int:
        """How many recordings the complete corpus has, as far as its own lists say."""
        return len(self.recordings)

    @property
    def synthetic(self) -> bool:
        """Whether the corpus was made by a program: then its numbers say nothing about lungs."""
        return (self.root / SYNTHETIC_MARK).exists()

    def cycles(self) -> Iterable[Cycle]:
        """The cycles of all good recordings, in the order of `recordings`."""
        return (cycle for recording in self.recordings for cycle in recording.cycles)

    def cycle_table(self) -> pa.Table:
        """One row a cycle: its fields, and one nullable int8 column a task."""
        cycles = list(self.cycles())
        fields = ("cycle_id", "recording", "patient", "device", "location", "mode")
        columns = {field: pa.array([getattr(c, field) for c in cycles], pa.string()) for field in fields}
        columns |= {field: pa.array([getattr(c, field) for c in cycles], pa.float64()) for field in ("start", "end")}
        columns |= {task: pa.array([c.labels.get(task) for c in cycles], pa.int8()) for task in self.classes}
        return pa.table(columns)

    def events(self) -> list[Event]:
        """Annotated sounds within the good recordings; most corpora have none."""
        return []

    def _refuse(self, where: str | Path, what: str, hint: str) -> None:
        """Name what leaves a recording out."""
        self.problems.append(Problem("error", str(where), what, hint))

    def summary(self) -> dict[str, Any]:
        """Size of the corpus: recordings at hand and listed, patients, cycles, and whether it is synthetic."""
        return {
            "recordings": len(self.recordings),
            "recordings_listed": self.recordings_listed,
            "patients": len({recording.patient for recording in self.recordings}),
            "cycles": sum(len(recording.cycles) for recording in self.recordings),
            "synthetic": self.synthetic,
        }
