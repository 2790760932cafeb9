"""Groups of fold runs that may be compared: the cohort of a run, and how many folds its split has."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from feature_store.metrics import Metric

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}


@dataclass(frozen=True)
class Cohort:
    """What two runs must share to stand on one board: the same data, cycles for training and test, and metric."""

    dataset: str
    task: str
    split: str
    split_hash: str
    classes: tuple[str, ...]
    synthetic: bool
    recordings: int
    recordings_listed: int
    metric: Metric

    @property
    def digest(self) -> str:
        """64 hex digits over every field."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def inner(self) -> bool:
        """Whether the folds lie inside a training side: the search's cross-validation."""
        return inner_folds(self.split) is not None

    @property
    def folds(self) -> int:
        """How many folds the split has."""
        return split_folds(self.split)


def inner_folds(split: str) -> int | None:
    """The k of ``<outer>-inner<k>``; None for a split with an outer test side."""
    _, found, k = split.rpartition("-inner")
    return int(k) if found and k.isdigit() and int(k) > 0 else None


def split_folds(split: str) -> int:
    """Folds of a split by its name: 5 of ``five-fold``, k inner ones for each outer one, else 1."""
    k = inner_folds(split)
    if k is not None:
        return k * split_folds(split.rpartition("-inner")[0])
    return NUMBERS.get(split.removesuffix("-fold"), 1)
