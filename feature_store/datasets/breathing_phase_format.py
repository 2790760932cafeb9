"""The lists of the breathing-phase contest: their columns in both styles, and the names of clips."""

from __future__ import annotations

import re
from pathlib import Path

from feature_store.datasets.base import Problem
from feature_store.datasets.clip_list import Clip
from feature_store.datasets.text_tables import read_rows, without_audio_suffix
from feature_store.errors import UserError

TRAIN_LIST, TEST_LIST = "train.csv", "test.csv"
LABEL_COLUMNS = (("ID", "Target"), ("file_name", "label"))
ID_COLUMNS = ("ID", "file_name")
SUBMISSION = ("ID", "Target")
CODES = ("I", "E")  # inhale, exhale: of the classes in their order
WITH_CLASS = re.compile(r"^(?P<source>.+)_[IE]_(?P<number>\d+)$")
CLIP = re.compile(r"^(?P<source>.+)_(?P<number>\d+)$")


def stem_of(listed: str) -> str:
    """The stem of a clip's audio file: without a suffix, and without the class that one style has in its names.

    >>> stem_of("steth_20180814_09_37_11_I_004"), stem_of("steth_20180814_09_37_11_004.wav")
    ('steth_20180814_09_37_11_004', 'steth_20180814_09_37_11_004')
    """
    bare = without_audio_suffix(listed)
    found = WITH_CLASS.match(bare)
    return f"{found['source']}_{found['number']}" if found else bare


def source_of(name: str) -> str:
    """The recording that a clip is a part of: its name without the last number; the whole name where it has none."""
    found = CLIP.match(name)
    return found["source"] if found else name


def read_labels(path: Path) -> tuple[list[Clip], list[Problem]]:
    """The rows of `train.csv`, in order. A name that is no plain file name is left out as a problem.

    Raises:
        UserError: there is no such list, a column is missing, or it has no row.
    """
    fields, rows = read_rows(path)
    pair = next((pair for pair in LABEL_COLUMNS if set(pair) <= set(fields)), None)
    if pair is None:
        known = " or ".join(f"{name}, {label}" for name, label in LABEL_COLUMNS)
        raise UserError(f"its columns are {', '.join(fields) or 'none'}", where=str(path), hint=f"it needs {known}")
    clips, problems = [], []
    for number, row in rows:
        listed, code = (row[column] for column in pair)
        if not _plain(listed):
            problems.append(Problem("error", f"{path}:{number}", f"'{listed}' is no clip's name", "correct the row"))
            continue
        name = stem_of(listed)
        source = source_of(name)
        clips.append(Clip(name, listed, code, number, patient=source, device=name.split("_", 1)[0]))
    if not clips:
        raise UserError("it lists no clip", where=str(path), hint="copy it again")
    return clips, problems


def read_ids(path: Path) -> list[str]:
    """The clips of `test.csv`, in order, as it names them.

    Raises:
        UserError: there is no such list, its column is missing, it has no row, or a name is none or appears twice.
    """
    fields, rows = read_rows(path)
    column = next((name for name in ID_COLUMNS if name in fields), None)
    if column is None:
        raise UserError(f"its columns are {', '.join(fields) or 'none'}", where=str(path), hint="it needs ID")
    names: dict[str, int] = {}
    for number, row in rows:
        name = row[column]
        if not _plain(name):
            raise UserError(f"'{name}' is no clip's name", where=f"{path}:{number}", hint="correct the row")
        if name in names:
            raise UserError(f"'{name}' is in row {names[name]}, too", where=f"{path}:{number}", hint="keep one row")
        names[name] = number
    if not names:
        raise UserError("it lists no clip", where=str(path), hint="copy it again")
    return list(names)


def _plain(name: str) -> bool:
    """Whether it names a file of the folder, and nothing outside of it."""
    return bool(name) and "/" not in name and "\\" not in name and not name.startswith(".")
