"""Fold runs that may be compared, and those that make one entry: cohorts, and in them configs over seeds and folds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from feature_store.metrics import Metric
from workers.evaluation import Metrics
from workers.results import FoldKey, FoldResult, ProtocolResult

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}


class ScoredRun(Protocol):
    """A fold run and what it reached: a `FoldResult`, or a part of one."""

    @property
    def hash(self) -> str: ...

    @property
    def key(self) -> FoldKey: ...

    @property
    def protocols(self) -> Mapping[str, ProtocolResult]: ...


R = TypeVar("R", bound=ScoredRun)
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Cohort:
    """What two runs must share to be on one board: the same data, cycles for training and test, and metric."""

    dataset: str
    task: str
    split: str
    split_hash: str
    classes: tuple[str, ...]
    synthetic: bool
    recordings: int
    recordings_listed: int
    metric: Metric

    @classmethod
    def of(cls, result: FoldResult) -> Cohort:
        """The cohort of a fold run."""
        key, data = result.key, result.data
        return cls(
            data.dataset,
            data.task,
            key.split,
            key.split_hash,
            tuple(data.classes),
            data.synthetic,
            data.recordings,
            data.recordings_listed,
            data.metric,
        )

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


@dataclass(frozen=True)
class Identity:
    """All that the fold runs of an entry share: they differ in seed and fold alone."""

    cohort: Cohort
    protocol: str
    semantics: int
    config_hash: str
    data_hash: str
    feature_id: str

    @classmethod
    def of(cls, cohort: Cohort, key: FoldKey, protocol: str) -> Identity:
        """The identity of a fold run, by its key."""
        return cls(cohort, protocol, key.semantics, key.config_hash, key.data_hash, key.feature_id)

    @property
    def id(self) -> str:
        """12 hex digits over every field, so that two identities never have one id."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Group(Generic[R]):
    """The fold runs of one config on one cohort under one protocol.

    Attributes:
        identity: what they share.
        runs: sorted by seed and fold.
        folds: how many folds the split has.
        folds_done: fewest over the started seeds.
        complete: seed -> its runs, in the order of the folds, for the seeds that have them all.
        started: all seeds, sorted.
    """

    def __init__(self, identity: Identity, runs: Sequence[R], folds: int) -> None:
        self.identity, self.folds = identity, folds
        self.runs = sorted(runs, key=lambda run: (run.key.seed, run.key.fold, run.hash))
        by_seed = grouped(self.runs, lambda run: run.key.seed)
        self.folds_done = min(len(of_seed) for of_seed in by_seed.values())
        self.complete: dict[int, list[R]] = {seed: of for seed, of in by_seed.items() if len(of) == folds}
        self.started = sorted(by_seed)

    @property
    def id(self) -> str:
        """Stable name of the entry."""
        return self.identity.id

    @property
    def protocol(self) -> str:
        return self.identity.protocol

    @property
    def metric(self) -> Metric:
        """What they are ranked by."""
        return self.identity.cohort.metric

    @property
    def used(self) -> list[R]:
        """The runs behind the numbers."""
        return [run for runs in self.complete.values() for run in runs]

    def leave_out(self, seed: int) -> None:
        """Take a complete seed out of the numbers."""
        del self.complete[seed]

    def test(self, run: R) -> Metrics:
        return run.protocols[self.protocol].test

    def tests(self) -> list[list[Metrics]]:
        """Metrics of the test sides, ``[seeds][folds]``, of the seeds that are complete."""
        return [[self.test(run) for run in runs] for runs in self.complete.values()]


def groups_of(cohort: Cohort, runs: Sequence[R], protocol: str) -> list[Group[R]]:
    """Fold runs of the same config, data and code version; in a fixed order.

    Args:
        cohort: of all the runs.
        runs: fold runs; those without the protocol are left out.
        protocol: how the epoch was chosen.
    """
    folds = max([cohort.folds, *(1 + run.key.fold for run in runs)])
    scored = [run for run in runs if protocol in run.protocols]
    same = grouped(scored, lambda run: Identity.of(cohort, run.key, protocol))
    by_key = sorted(same, key=lambda one: (one.config_hash, one.data_hash, one.semantics, one.feature_id))
    return [Group(identity, same[identity], folds) for identity in by_key]


def grouped(things: Iterable[Thing], key: Callable[[Thing], Any]) -> dict[Any, list[Thing]]:
    """Things by their keys, both in the order in which they come."""
    groups: dict[Any, list[Thing]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups


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
