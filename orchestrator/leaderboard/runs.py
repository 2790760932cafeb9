"""Fold runs as the leaderboard needs them: small enough for tens of thousands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from feature_store.metrics import Metric
from workers.results import FoldKey, FoldResult, ProtocolResult, Provenance

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


@dataclass(frozen=True, slots=True)
class Run:
    """One fold run: a `FoldResult` without what only its own page would show."""

    hash: str
    key: FoldKey
    cohort: Cohort
    config: dict[str, Any]
    protocols: dict[str, ProtocolResult]
    test_cycles: int
    test_patients: int
    both_sides: tuple[str, ...]
    sounds_on_both_sides: tuple[str, ...]
    sounds_in_doubt: tuple[str, ...]
    split_source: str
    parameters: int
    provenance: Provenance
    train_seconds: float
    energy_kwh: float | None
    test_reads: int
    compat: tuple[str, ...]

    @classmethod
    def of(cls, result: FoldResult, shared: dict[Any, Any]) -> Run:
        """Keep what the board needs; equal configs and cohorts are one object, through `shared`."""
        data = result.data
        cohort = Cohort(
            data.dataset,
            data.task,
            result.key.split,
            result.key.split_hash,
            tuple(data.classes),
            data.synthetic,
            data.recordings,
            data.recordings_listed,
            data.metric,
        )
        return cls(
            hash=result.hash,
            key=result.key,
            cohort=shared.setdefault(cohort, cohort),
            config=shared.setdefault(json.dumps(result.config, sort_keys=True), result.config),
            protocols=result.protocols,
            test_cycles=data.test,
            test_patients=data.test_patients,
            both_sides=tuple(data.patients_on_both_sides),
            sounds_on_both_sides=tuple(data.sounds_on_both_sides),
            sounds_in_doubt=tuple(data.sounds_in_doubt),
            split_source=data.split_source,
            parameters=int(result.model["parameters"]),
            provenance=result.provenance,
            train_seconds=float(result.timing.get("train_seconds", 0.0)),
            energy_kwh=result.timing.get("energy_kwh"),
            test_reads=result.test_reads,
            compat=tuple(result.compat),
        )
