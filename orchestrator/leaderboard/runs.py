"""Fold runs as the leaderboard needs them: read once from the result store, small enough for tens of thousands."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.errors import UserError
from orchestrator.leaderboard.schema import Problem
from orchestrator.leaderboard.statistics import PatientHits, patient_hits
from workers.results import FoldKey, FoldResult, ProtocolResult, Provenance, ResultStore

READERS = 8


@dataclass(frozen=True)
class Cohort:
    """What two runs must share to stand on one board: the same cycles for training and test, of the same data."""

    dataset: str
    task: str
    split: str
    split_hash: str
    classes: tuple[str, ...]
    synthetic: bool
    recordings: int
    recordings_listed: int

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
    return 5 if split == "five-fold" else 1


@dataclass(frozen=True, slots=True)
class Run:
    """One fold run: a `FoldResult` without what only its own page would show."""

    hash: str
    key: FoldKey
    cohort: Cohort
    config: dict[str, Any]
    protocols: dict[str, ProtocolResult]
    validation_curve: tuple[float | None, ...]
    loss_curve: tuple[float | None, ...]
    test_cycles: int
    test_patients: int
    both_sides: tuple[str, ...]
    parameters: int
    provenance: Provenance
    train_seconds: float
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
        )
        return cls(
            hash=result.hash,
            key=result.key,
            cohort=shared.setdefault(cohort, cohort),
            config=shared.setdefault(result.key.config_hash, result.config),
            protocols=result.protocols,
            validation_curve=tuple((epoch.get("validation") or {}).get("score") for epoch in result.epochs),
            loss_curve=tuple(epoch.get("train_loss") for epoch in result.epochs),
            test_cycles=data.test,
            test_patients=data.test_patients,
            both_sides=tuple(data.patients_on_both_sides),
            parameters=int(result.model["parameters"]),
            provenance=result.provenance,
            train_seconds=float(result.timing.get("train_seconds", 0.0)),
            test_reads=result.test_reads,
            compat=tuple(result.compat),
        )


def read_runs(results: ResultStore) -> tuple[list[Run], list[Problem]]:
    """Every fold run, in the order of their hashes, and the results that could not be read."""

    def read(name: str) -> FoldResult | Problem | None:
        try:
            return results.get(name)
        except UserError as error:
            return Problem(result=name, what=error.what)

    runs: list[Run] = []
    problems: list[Problem] = []
    shared: dict[Any, Any] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(read, results.hashes()):
            if isinstance(found, Problem):
                problems.append(found)
            elif found is not None:
                runs.append(Run.of(found, shared))
    return runs, problems


@dataclass(frozen=True)
class Predictions:
    """Test side of one fold run under one protocol: logits ``[cycles, classes]``, labels ``[cycles]``."""

    logits: np.ndarray
    labels: np.ndarray
    hits: PatientHits


class PredictionReader:
    """Reads a run's predictions once, for all its protocols."""

    def __init__(self, results: ResultStore) -> None:
        self._results = results
        self._read: dict[str, dict[str, Predictions]] = {}

    def get(self, run: Run, protocol: str) -> Predictions:
        """Predictions of the test side.

        Raises:
            UserError: the result lacks its predictions, or those of this protocol.
        """
        if run.hash not in self._read:
            self._read[run.hash] = self._load(run.hash)
        found = self._read[run.hash].get(protocol)
        if found is None:
            raise UserError(f"result {run.hash} has no predictions under protocol '{protocol}'")
        return found

    def forget(self, runs: Iterable[Run]) -> None:
        """Free what will not be asked for again."""
        for run in runs:
            self._read.pop(run.hash, None)

    def _load(self, name: str) -> dict[str, Predictions]:
        table = self._results.predictions(name)
        protocols = np.asarray(table["protocol"].to_pylist(), dtype=str)
        labels = table["label"].to_numpy().astype(np.int64)
        patients = np.asarray(table["patient"].to_pylist(), dtype=str)
        logits = table["logits"].combine_chunks()
        values = logits.flatten().to_numpy(zero_copy_only=False).reshape(len(labels), -1)
        found = {}
        for protocol in np.unique(protocols):
            rows = protocols == protocol
            hits = patient_hits(values[rows].argmax(axis=1), labels[rows], patients[rows])
            found[str(protocol)] = Predictions(values[rows], labels[rows], hits)
        return found
