"""Fold runs that make one entry: what they share is the entry's identity, and its id is a digest of just that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.leaderboard.runs import Cohort, Run
from workers.evaluation import Metrics


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
    def of(cls, run: Run, protocol: str) -> Identity:
        key = run.key
        return cls(run.cohort, protocol, key.semantics, key.config_hash, key.data_hash, key.feature_id)

    @property
    def id(self) -> str:
        """12 hex digits over every field, so that two identities never have one id."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Group:
    """The fold runs of one config on one cohort under one protocol.

    Attributes:
        runs: sorted by seed and fold.
        identity: what they share.
        metric: what they are ranked by.
        folds: how many folds the split has.
        complete: seed -> its runs, in the order of the folds, for the seeds that have them all.
    """

    def __init__(self, runs: Sequence[Run], protocol: str, folds: int) -> None:
        self.runs = sorted(runs, key=lambda run: (run.key.seed, run.key.fold, run.hash))
        self.protocol, self.folds = protocol, folds
        self.identity = Identity.of(self.runs[0], protocol)
        self.metric = self.runs[0].cohort.metric
        by_seed: dict[int, list[Run]] = {}
        for run in self.runs:
            by_seed.setdefault(run.key.seed, []).append(run)
        self.folds_done = min(len(of_seed) for of_seed in by_seed.values())
        self.complete = {seed: of_seed for seed, of_seed in by_seed.items() if len(of_seed) == folds}
        self.begun = sorted(by_seed)

    @property
    def id(self) -> str:
        """Stable name of the entry."""
        return self.identity.id

    @property
    def used(self) -> list[Run]:
        """The runs behind the numbers."""
        return [run for runs in self.complete.values() for run in runs]

    def leave_out(self, seed: int) -> None:
        """Take a complete seed out of the numbers."""
        del self.complete[seed]

    def test(self, run: Run) -> Metrics:
        return run.protocols[self.protocol].test

    def tests(self) -> list[list[Metrics]]:
        """Metrics of the test sides, ``[seeds][folds]``, of the seeds that are complete."""
        return [[self.test(run) for run in runs] for runs in self.complete.values()]
