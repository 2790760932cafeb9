"""The ICBHI 2017 respiratory sound database: 920 recordings of 126 patients, with crackles and wheezes annotated.

Rocha et al. 2019, "An open access database for the evaluation of respiratory sound classification algorithms".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeVar

import pyarrow as pa

from feature_store.counted import counted
from feature_store.datasets import icbhi_format as formats
from feature_store.datasets.audio_header import read_header
from feature_store.datasets.base import SYNTHETIC_MARK, Corpus, Cycle, Event, Problem, Recording, SideCounts, SideKey
from feature_store.datasets.icbhi_events import read_events
from feature_store.datasets.icbhi_folder import LISTS, IcbhiFolder
from feature_store.datasets.icbhi_published import COMPLETE, PUBLISHED, published_split, unlike_published
from feature_store.datasets.icbhi_splits import five_folds, official_splits
from feature_store.errors import UserError
from feature_store.splits import SplitTable

END_TOLERANCE = 1e-3  # seconds by which a cycle may end after the file: annotations are written in milliseconds
SHOWN = 5  # names that a problem of many recordings lists

T = TypeVar("T")


class IcbhiCorpus(Corpus):
    """ICBHI 2017, whole or in part, as WAV or FLAC, or its annotations alone.

    A recording is left out, and named in `problems`, where its audio or annotation is missing or broken, its name
    is not understood, or the official split does not list it. Recordings in the old spelling of
    `filename_differences.txt` get their corrected name, so that both spellings give the same corpus.

    Attributes:
        has_audio: False where only annotations are at hand; then every recording's `audio` is None.
        sides: official side of each recording that the split file lists, else the published list; empty where neither
            has any of the recordings.
        folds: published fold of each patient; empty where there is no fold list.
        diagnoses: disease of each patient.
        demographics: age, sex, BMI, weight and height of each patient; empty where there is no such file.
    """

    name = "icbhi"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "lungsound4": ("normal", "crackle", "wheeze", "both"),
        "lungsound2": ("normal", "abnormal"),
        "diagnosis3": ("healthy", "chronic", "non-chronic"),
        "diagnosis2": ("healthy", "unhealthy"),
    }

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recordings, self.problems = [], []
        self._folder = IcbhiFolder.find(self.root)
        self.problems += self._folder.problems
        self.has_audio = self._folder.has_audio
        self._renamed = self._read("renamed", formats.read_renamed, "old device names cannot be told from new ones")
        self.split_source = ""
        self.sides = self._read_sides()
        self.folds = self._read("folds", formats.read_folds, "there is no split 'five-fold'")
        self.diagnoses = self._read("diagnoses", formats.read_diagnoses, "cycles have no diagnosis label")
        self.demographics = self._read_demographics()
        if not self.has_audio:
            where, what = str(self._folder.recordings), "there is no audio, only annotations: counts, but no features"
            self.problems.append(Problem("warning", where, what))
        self._scan()
        places = (self.root, self._folder.recordings, self._folder.recordings.parent)
        self._events, problems = read_events(places, [recording.name for recording in self.recordings])
        self.problems += problems

    @property
    def recordings_listed(self) -> int:
        """Recordings in the official split file: 920 of the complete database."""
        return len(self.sides) or len(self.recordings)

    @property
    def synthetic(self) -> bool:
        """Whether a file `SYNTHETIC` lies beside the lists or the recordings."""
        places = (self.root, self._folder.recordings, self._folder.recordings.parent)
        return any((place / SYNTHETIC_MARK).exists() for place in places)

    def metadata_vector(self, recording: Recording, missing_sex: float = -1.0) -> list[float]:
        """Seven numbers of a recording's patient, place and device (`Demographics.vector`); -1 where unknown."""
        unknown = formats.Demographics(None, None, None, None, None)
        stem = formats.Stem(*recording.name.split("_"))
        return self.demographics.get(recording.patient, unknown).vector(stem, missing_sex)

    def cycle_table(self) -> pa.Table:
        """One row a cycle, with `sex` (M or F) and `age` (years) of its patient; null where the list does not say."""
        table = super().cycle_table()
        who = [self.demographics.get(patient) for patient in table["patient"].to_pylist()]
        sex, age = ([getattr(one, column, None) for one in who] for column in ("sex", "age"))
        table = table.append_column("sex", pa.array(sex, pa.string()))
        return table.append_column("age", pa.array(age, pa.float64()))

    def events(self) -> list[Event]:
        """Those of a folder `events` beside the recordings; empty where there is none."""
        return self._events

    def published_counts(self) -> dict[SideKey, SideCounts]:
        """What the complete database must count to; empty for a part of it and for a synthetic one."""
        return {} if self.synthetic or len(self.recordings) != COMPLETE else PUBLISHED

    def splits(self) -> dict[str, SplitTable]:
        """The official split with its patient-disjoint variants, and the published five folds where their list is.

        ``official``: recordings as the challenge lists them; two patients, 156 and 218, are on both sides.
        ``official-no-overlap``: without the training recordings of patients who are on both sides.
        ``official-patient-test``: every recording of a patient with a test recording is test, the rest is train.
        ``five-fold``: fold k tests the patients of fold k and trains on the others.
        ``compat-official-patient-expanded``: CycleGuardian's, which leaks; see `icbhi_splits.patient_expanded`.

        Who is on both sides is read from the whole list, also where some of the recordings are missing.

        Where neither a split file nor the published list has the recordings, there is ``five-fold`` alone.

        Raises:
            UserError: there is no official split file and no fold list, or nothing in them can be used.
        """
        if not self.sides:
            return self._splits_without_sides()
        return official_splits(self.recordings, self.sides, self.folds)

    def _splits_without_sides(self) -> dict[str, SplitTable]:
        """The five folds, which need no official split.

        Raises:
            UserError: there is no fold list either, or the split file has no usable line.
        """
        if path := self._folder.lists.get("split"):
            raise UserError("the split file lists no recording", where=str(path), hint="download it again")
        if self.folds:
            return {"five-fold": five_folds(self.recordings, self.folds)}
        hint = f"put {' or '.join(LISTS['split'][:2])} into this folder, or {LISTS['folds'][0]} for 'five-fold' alone"
        raise UserError("the official split file is missing", where=str(self.root), hint=hint)

    def _read(
        self, kind: str, read: Callable[[Path], tuple[dict[str, T], list[Problem]]], without: str
    ) -> dict[str, T]:
        """One of the lists beside the recordings; a missing one is a warning that says what follows from it."""
        path = self._folder.lists.get(kind)
        if path is None:
            hint = f"put {LISTS[kind][0]} into this folder"
            self.problems.append(Problem("warning", str(self.root), f"{LISTS[kind][0]} is missing: {without}", hint))
            return {}
        content, problems = read(path)
        self.problems += problems
        return content

    def _read_sides(self) -> dict[str, str]:
        """The database's own list; without one the published list, where it has a recording of the folder."""
        if "split" not in self._folder.lists and not self.synthetic:
            spelt = {*self._folder.audio, *self._folder.annotations}
            if any(self._renamed.get(name, name) in published_split() for name in spelt):
                what = f"{LISTS['split'][0]} is missing: the official split is lungtune's copy of the published list"
                self.problems.append(Problem("warning", str(self.root), what, "put the database's own list here"))
                self.split_source = "published list, shipped with lungtune: the database has none"
                return dict(published_split())
        sides = self._read("split", formats.read_split, "there is no official split")
        sides = {self._renamed.get(name, name): side for name, side in sides.items()}
        if sides and not self.synthetic and (unlike := unlike_published(sides)):
            self.split_source = f"the database's own list, which differs from the published one in {len(unlike)} rows"
            what = f"{len(unlike)} recordings are on the other side of the published official split: {_some(unlike)}"
            hint = "Scores on this split cannot be compared with published ones; remove the list to use the published"
            self.problems.append(Problem("warning", str(self._folder.lists["split"]), what, hint))
        return sides

    def _read_demographics(self) -> dict[str, formats.Demographics]:
        """The one list that nothing depends on: what is wrong with it is never more than a warning."""
        path = self._folder.lists.get("demographics")
        content, problems = formats.read_demographics(path) if path else ({}, [])
        self.problems += [replace(problem, severity="warning") for problem in problems]
        return content

    def _scan(self) -> None:
        """Read every recording on disk; the good ones are kept."""
        spelt = sorted({*self._folder.audio, *self._folder.annotations})
        names: dict[str, str] = {}
        for spelling in sorted(spelt, key=lambda s: s in self._renamed):  # the corrected spelling wins
            name = self._renamed.get(spelling, spelling)
            if name in names:
                what = f"is the old spelling of {names[name]}, which is there too; the old one is not read"
                where = self._folder.audio.get(spelling) or self._folder.annotations[spelling]
                self.problems.append(Problem("warning", str(where), what, "remove one of the two"))
            else:
                names[name] = spelling
        for name in sorted(names):
            self._read_recording(name, names[name])
        self._report_absent(set(names))
        self._report_unlisted_patients()

    def _read_recording(self, name: str, spelling: str) -> None:
        audio, annotation = self._folder.audio.get(spelling), self._folder.annotations.get(spelling)
        where = str(audio or annotation)
        stem = formats.parse_stem(name)
        problems: list[Problem] = []
        if isinstance(stem, str):
            self.problems.append(Problem("error", where, stem, "rename the file"))
            return
        if self.sides and name not in self.sides:
            self.problems.append(Problem("error", where, "the official split does not list it", self._closest(name)))
            return
        seconds: float | None = None
        rows: list[formats.AnnotationRow] = []
        if audio:
            header, found = read_header(audio)
            seconds = header.seconds if header else None
            problems += found
        elif self.has_audio:
            problems.append(Problem("error", where, f"there is no audio {spelling}.wav or .flac", "download it again"))
        if annotation:
            rows, found = formats.read_annotation(annotation)
            problems += found
        else:
            problems.append(Problem("error", where, f"there is no annotation {spelling}.txt", "download it again"))
        if seconds is not None:
            problems += _ends_past(rows, seconds, annotation)
        self.problems += problems
        if not _errors(problems):
            self.recordings.append(self._recording(name, stem, audio, annotation, rows))

    def _recording(
        self,
        name: str,
        stem: formats.Stem,
        audio: Path | None,
        annotation: Path | None,
        rows: list[formats.AnnotationRow],
    ) -> Recording:
        diagnosis = formats.diagnosis_labels(self.diagnoses.get(stem.patient))
        place = (stem.patient, stem.device, stem.location, stem.mode)
        cycles = tuple(
            Cycle(
                f"{name}#{index:03d}",
                name,
                *place,
                row.start,
                row.end,
                formats.lungsound_labels(row.crackle, row.wheeze) | diagnosis,
            )
            for index, row in enumerate(rows)
        )
        return Recording(name, *place, audio, annotation, cycles, formats.annotation_hash(rows))

    def _closest(self, name: str) -> str:
        """The line of the split file that may mean this recording: all but the device is the same."""
        head = name.rsplit("_", 1)[0]
        meant = [other for other in self.sides if other.rsplit("_", 1)[0] == head]
        if meant:
            return f"it lists {meant[0]}: correct the split file or rename the recording"
        return "add a line for it" if "split" in self._folder.lists else f"put {LISTS['split'][0]} with it here"

    def _report_absent(self, present: set[str]) -> None:
        absent = sorted(set(self.sides) - present)
        if absent:
            files = "audio and annotation" if self.has_audio else "annotation"
            what = f"{len(absent)} of {len(self.sides)} listed recordings are not here ({files}): {_some(absent)}"
            where = self._folder.lists.get("split", self.root)
            self.problems.append(Problem("warning", str(where), what, "the database is partial"))

    def _report_unlisted_patients(self) -> None:
        patients = sorted({recording.patient for recording in self.recordings})
        for kind, known, effect in (
            ("folds", self.folds, "in no fold of 'five-fold'"),
            ("diagnoses", self.diagnoses, "no diagnosis label"),
        ):
            absent = [patient for patient in patients if patient not in known]
            if known and absent:
                who = counted(len(absent), "patient is", "patients are")
                what = f"{who} not in the list: {_some(absent)}; {effect}"
                hint = "add a line for each"
                self.problems.append(Problem("warning", str(self._folder.lists[kind]), what, hint))


def _errors(problems: list[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _ends_past(rows: list[formats.AnnotationRow], seconds: float, annotation: Path | None) -> list[Problem]:
    late = [row for row in rows if row.end > seconds + END_TOLERANCE]
    if not late:
        return []
    what = f"{len(late)} of {len(rows)} cycles end past the end of the audio ({late[-1].end:g} s of {seconds:.3f} s)"
    return [Problem("error", str(annotation), what, "the audio is cut short, or the annotation is of another file")]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
