"""The text formats of the ICBHI 2017 database: names of recordings, annotations, and the lists beside them.

The formats, with their anomalies: Rocha et al. 2019, "An open access database for the evaluation of respiratory
sound classification algorithms", and the files themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from feature_store.datasets.base import Problem
from feature_store.datasets.text_tables import number_of, read_lines, without_audio_suffix
from feature_store.errors import UserError, nearest

DEVICES = ("Meditron", "LittC2SE", "Litt3200", "AKGC417L")
LOCATIONS = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
MODES = ("sc", "mc")
RENAMED_TO = "Meditron"  # the device of every recording in filename_differences.txt

CHRONIC = frozenset({"COPD", "Bronchiectasis", "Asthma"})
NON_CHRONIC = frozenset({"URTI", "LRTI", "Pneumonia", "Bronchiolitis"})
HEALTHY = "Healthy"

T = TypeVar("T")


class Stem(NamedTuple):
    """The five tokens of a recording's name, e.g. ``101_1b1_Al_sc_Meditron``."""

    patient: str
    take: str
    location: str
    mode: str
    device: str


class AnnotationRow(NamedTuple):
    """One cycle: start and end in seconds, and whether crackles and wheezes are heard in it."""

    start: float
    end: float
    crackle: int
    wheeze: int


@dataclass(frozen=True)
class Demographics:
    """What `metadata.txt` says of a patient; None where it says NA. BMI is given of adults, weight (kg) and height
    (cm) of children; age is in years."""

    age: float | None
    sex: str | None
    bmi: float | None
    weight: float | None
    height: float | None

    def vector(self, stem: Stem, missing_sex: float = -1.0) -> list[float]:
        """Seven numbers: age, sex (M 0, F 1), BMI, weight, height, chest location, device; -1 where missing.

        Location and device are those of the recording and index `LOCATIONS` and `DEVICES`; the file's own location
        is one a patient and often wrong. The Patch-Mix system counts a missing sex as female: ``missing_sex=1``.
        """
        sex = missing_sex if self.sex is None else float(self.sex != "M")
        numbers = (self.age, sex, self.bmi, self.weight, self.height)
        known = [-1.0 if number is None else number for number in numbers]
        return [*known, float(LOCATIONS.index(stem.location)), float(DEVICES.index(stem.device))]


def parse_stem(stem: str) -> Stem | str:
    """The tokens of a recording's name, or, where it is not one, what is wrong with it."""
    tokens = stem.split("_")
    if len(tokens) != 5 or not all(tokens):
        return f"the name has {len(tokens)} parts, not 5 (patient_index_location_mode_device)"
    name = Stem(*tokens)
    for word, value, known in (
        ("device", name.device, DEVICES),
        ("chest location", name.location, LOCATIONS),
        ("acquisition mode", name.mode, MODES),
    ):
        if value not in known:
            return f"unknown {word} '{value}' in the name ({nearest(value, known)})"
    return name


def lungsound_labels(crackle: int, wheeze: int) -> dict[str, int | None]:
    """Class indices: normal, crackle, wheeze, both in `lungsound4`; normal, abnormal in `lungsound2`."""
    return {"lungsound4": crackle + 2 * wheeze, "lungsound2": int(crackle or wheeze)}


def diagnosis_labels(disease: str | None) -> dict[str, int | None]:
    """Class indices: healthy, chronic, non-chronic in `diagnosis3`; healthy, unhealthy in `diagnosis2`."""
    if disease is None:
        return {"diagnosis3": None, "diagnosis2": None}
    return {
        "diagnosis3": 1 if disease in CHRONIC else 2 if disease in NON_CHRONIC else 0,
        "diagnosis2": int(disease != HEALTHY),
    }


def read_annotation(path: Path) -> tuple[list[AnnotationRow], list[Problem]]:
    """The cycles of an annotation file: start, end, crackle and wheeze, separated by tabs, without a header."""
    rows, problems = _read_rows(path, _annotation_row)
    if not rows and not problems:
        problems.append(Problem("error", str(path), "the annotation is empty: it has no cycle", "download it again"))
    return rows, problems


def _annotation_row(fields: list[str]) -> AnnotationRow:
    if len(fields) != 4:
        raise ValueError(f"has {len(fields)} columns, not 4 (start, end, crackle, wheeze)")
    start, end = _number("start", fields[0]), _number("end", fields[1])
    if start < 0:
        raise ValueError(f"the cycle starts at {start:g} s, before the recording")
    if end <= start:
        raise ValueError(f"the cycle ends at {end:g} s, not after its start at {start:g} s")
    for word, field in zip(("crackle", "wheeze"), fields[2:], strict=True):
        if field not in ("0", "1"):
            raise ValueError(f"{word} is '{field}'; it must be 0 or 1")
    return AnnotationRow(start, end, int(fields[2]), int(fields[3]))


def annotation_hash(rows: list[AnnotationRow]) -> str:
    """SHA-256 of times and labels as numbers: spelling, line ends and trailing zeros do not matter."""
    text = "\n".join(f"{row.start!r} {row.end!r} {row.crackle} {row.wheeze}" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def read_split(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Side, ``train`` or ``test``, of each recording: a line each, `stem<TAB>side`; upper and lower case alike."""

    def row(fields: list[str]) -> tuple[str, str]:
        stem, side = _pair(fields, "a recording and its side")
        if side.lower() not in ("train", "test"):
            raise ValueError(f"the side is '{side}'; it must be train or test")
        return without_audio_suffix(stem), side.lower()

    return _read_mapping(path, row)


def read_folds(path: Path) -> tuple[dict[str, int], list[Problem]]:
    """Fold of each patient: a line each, `patient<SPACE>fold`."""

    def row(fields: list[str]) -> tuple[str, int]:
        patient, fold = _pair(fields, "a patient and a fold")
        if not fold.isdecimal() or int(fold) > 999:
            raise ValueError(f"the fold is '{fold}'; it must be a number from 0")
        return patient, int(fold)

    return _read_mapping(path, row)


def read_diagnoses(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Disease of each patient: a line each, `patient<TAB>disease`."""
    known = {disease.lower(): disease for disease in (*CHRONIC, *NON_CHRONIC, HEALTHY)}

    def row(fields: list[str]) -> tuple[str, str]:
        patient, disease = _pair(fields, "a patient and a diagnosis")
        if disease.lower() not in known:
            raise ValueError(f"unknown diagnosis '{disease}' ({nearest(disease, known.values())})")
        return patient, known[disease.lower()]

    return _read_mapping(path, row)


def read_demographics(path: Path) -> tuple[dict[str, Demographics], list[Problem]]:
    """Age, sex, BMI, weight and height of each patient: `id age sex BMI weight height [location]`, NA if missing."""

    def row(fields: list[str]) -> tuple[str, Demographics]:
        if len(fields) not in (6, 7):
            raise ValueError(f"has {len(fields)} columns, not 6 or 7 (id, age, sex, BMI, weight, height, location)")
        missing = {"NA", "NaN", "nan"}
        age, bmi, weight, height = (
            None if fields[i] in missing else _number(word, fields[i])
            for i, word in ((1, "age"), (3, "BMI"), (4, "weight"), (5, "height"))
        )
        if fields[2] not in {"M", "F", *missing}:
            raise ValueError(f"the sex is '{fields[2]}'; it must be M, F or NA")
        return fields[0], Demographics(age, None if fields[2] in missing else fields[2], bmi, weight, height)

    return _read_mapping(path, row)


def read_renamed(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Corrected name of each recording in `filename_differences.txt`: the device is Meditron, whatever the old name."""

    def row(fields: list[str]) -> tuple[str, str]:
        old = without_audio_suffix(" ".join(fields).strip("'\""))
        if old.count("_") != 4:
            raise ValueError(f"'{old}' is not the name of a recording")
        return old, f"{old.rsplit('_', 1)[0]}_{RENAMED_TO}"

    return _read_mapping(path, row)


def _read_mapping(path: Path, parse: Callable[[list[str]], tuple[str, T]]) -> tuple[dict[str, T], list[Problem]]:
    mapping: dict[str, T] = {}

    def unique(fields: list[str]) -> str:
        key, value = parse(fields)
        if mapping.setdefault(key, value) != value:
            raise ValueError(f"'{key}' was given another value above: {mapping[key]}")
        return key

    _, problems = _read_rows(path, unique)
    return mapping, problems


def _read_rows(path: Path, parse: Callable[[list[str]], T]) -> tuple[list[T], list[Problem]]:
    """Parse each line that is not blank; a ValueError becomes a problem with its row, and the line is passed over."""
    rows: list[T] = []
    problems: list[Problem] = []
    try:
        for number, fields in read_lines(path):
            try:
                rows.append(parse(fields))
            except ValueError as error:
                problems.append(Problem("error", f"{path}, row {number}", str(error), "correct the row"))
    except UserError as error:
        problems.append(Problem("error", str(path), error.what, error.hint or "download it again"))
    return rows, problems


def _pair(fields: list[str], what: str) -> tuple[str, str]:
    if len(fields) != 2:
        raise ValueError(f"has {len(fields)} columns, not 2 ({what})")
    return fields[0], fields[1]


def _number(word: str, field: str) -> float:
    try:
        number = number_of(field)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{word} is '{field}', not a number")
    return number
