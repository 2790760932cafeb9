"""Stored ensembles as entries: ranked with the models on the same cycles, and marked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from feature_store.counted import counted
from feature_store.errors import UserError
from feature_store.metrics import LABELS
from orchestrator.analysis.groups import Cohort, Identity, grouped
from orchestrator.analysis.items import Model, Objective
from orchestrator.analysis.labels import describe_model
from orchestrator.analysis.patient_counts import tally
from orchestrator.leaderboard.entries import (
    Candidate,
    Measured,
    Subject,
    Tested,
    build_entry,
    check_score,
    measure,
    seed_row,
)
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Member, Problem
from orchestrator.leaderboard.soundness import finite
from workers.ensembles import EnsembleResult, EnsembleStore
from workers.ensembles.record import ensemble_hash
from workers.predictions import BROKEN, Predictions, of_table
from workers.results import PREDICTIONS, ResultStore

METHODS = {
    "mean": "Mean of probabilities",
    "score": "Weights by {metric}",
    "softmax": "Softmax weights",
    "greedy": "Greedy selection",
}


@dataclass(frozen=True)
class Ensemble:
    """A stored ensemble whose members are all there.

    Attributes:
        stored: the content of `ensemble.json`.
        runs: its members' fold runs, in the order in which it names them.
    """

    stored: EnsembleResult
    runs: list[Run]

    @property
    def cohort(self) -> Cohort:
        return self.runs[0].cohort

    @property
    def members(self) -> dict[str, list[Run]]:
        """Config -> its fold runs in the ensemble."""
        return grouped(self.runs, lambda run: run.key.config_hash)


def read_ensembles(results: ResultStore, runs: Iterable[Run]) -> tuple[list[Ensemble], list[Problem]]:
    """Every stored ensemble, and those that cannot be shown.

    Args:
        results: the result store beside which they lie.
        runs: all fold runs that could be read.
    """
    store, by_hash = EnsembleStore(results.storage), {run.hash: run for run in runs}
    found: list[Ensemble] = []
    problems: list[Problem] = []
    for name in store.hashes():
        try:
            stored = store.get(name)
        except (UserError, OSError) as error:
            problems.append(Problem(result=name, what=getattr(error, "what", f"cannot be read: {error}")))
            continue
        if stored is None:
            continue
        if fault := _fault_of(name, stored):
            problems.append(Problem(result=name, what=fault))
            continue
        lost = [member.hash for member in stored.members if member.hash not in by_hash]
        if lost:
            some = (
                f"member {lost[0][:12]}"
                if len(lost) == 1
                else f"{counted(len(lost), 'member')}, the first {lost[0][:12]}"
            )
            problems.append(Problem(result=name, what=f"an ensemble without {some}: not among the results any more"))
            continue
        found.append(Ensemble(stored, [by_hash[member.hash] for member in stored.members]))
    return found, problems


def _fault_of(name: str, stored: EnsembleResult) -> str | None:
    """What is wrong with an ensemble, as far as its record shows it; None where nothing is."""
    hashes = [member.hash for member in stored.members]
    key = ensemble_hash(hashes, stored.method, stored.settings, stored.protocol, stored.metric)
    if stored.hash != name or key != name:
        return f"an ensemble whose hash is not that of its name: its members make it {key[:12]}"
    if not stored.members or not stored.folds:
        return "an ensemble without members or folds"
    return None if finite(stored) else "an ensemble with a number that is not finite"


def ensemble_entry(ensemble: Ensemble, results: ResultStore, folds: int, shared: Sequence[str] = ()) -> Candidate:
    """An ensemble as an entry, not yet ranked.

    Args:
        ensemble: with all its members.
        results: the result store beside which its predictions lie.
        folds: of the split.
        shared: patients on both sides of the split.
    """
    stored, runs, metric = ensemble.stored, ensemble.runs, ensemble.cohort.metric
    tests = [fold.test for fold in stored.folds]

    def read() -> Tested:
        tallies = [tally(fold, metric) for fold in read_folds(EnsembleStore(results.storage), stored)]
        for test, one in zip(tests, tallies, strict=True):
            check_score(test, one, f"ensemble {stored.hash[:12]}")
        return [tests], [tallies]

    measured = Measured(note=f"{len(tests)} of {counted(folds, 'fold')} done")
    if len(tests) == folds:
        measured = measure(read, metric)
    held_out = [fold.validation for fold in stored.folds]
    subject = Subject(
        id=hashlib.sha256(f"{stored.hash}\n{stored.protocol}".encode()).hexdigest()[:12],
        model=_model(ensemble),
        objective=_objective(stored),
        config={"method": stored.method, "configs": ", ".join(sorted(name[:8] for name in ensemble.members))},
        config_hash=stored.hash,
        data_hash=stored.data_hash,
        folds=folds,
        folds_done=len(tests),
        seeds=[seed_row(min(run.key.seed for run in runs), [], tests, held_out, metric)],
        tests=[tests],
        runs=runs,
        started=runs,
        compat=stored.compat,
        test_watched=stored.test_watched,
    )
    candidate = build_entry(subject, measured, shared)
    entry = candidate.entry
    entry.kind, entry.members = "ensemble", _members(ensemble)
    entry.origin = entry.origin.model_copy(update={"command": [stored.command], "finished": stored.created})
    return candidate


def read_folds(store: EnsembleStore, stored: EnsembleResult) -> list[Predictions]:
    """Predictions of an ensemble's test side, a fold each.

    Raises:
        UserError: they are missing or cannot be read.
    """
    try:
        table = store.predictions(stored.hash)
        return [of_table(table.filter(pc.equal(table["fold"], fold.fold))) for fold in stored.folds]
    except BROKEN as error:
        what = f"{PREDICTIONS} of ensemble {stored.hash} cannot be read: {error}"
        raise UserError(what, hint="delete its folder and run `lungtune ensemble` again") from error


def _model(ensemble: Ensemble) -> Model:
    """All networks together: one a config and seed."""
    networks = {(run.key.config_hash, run.key.seed): run.parameters for run in ensemble.runs}
    label = f"Ensemble of {len(networks)}"
    return Model(family="ensemble", label=label, parameters=sum(networks.values()), pretrained=None)


def _objective(stored: EnsembleResult) -> Objective:
    """What weights the members, in an objective's place."""
    used: Mapping[str, Any] = stored.settings.used_by(stored.method, stored.metric).model_dump(exclude_defaults=True)
    return Objective(
        name=stored.method, label=METHODS[stored.method].format(metric=LABELS[stored.metric]), settings=dict(used)
    )


def _members(ensemble: Ensemble) -> list[Member]:
    """One a config, the heaviest first; its weight is the mean over folds, of all its seeds together."""
    found = []
    for runs in ensemble.members.values():
        hashes = {run.hash for run in runs}
        weight = sum(member.weight for member in ensemble.stored.members if member.hash in hashes)
        found.append(
            Member(
                id=Identity.of(runs[0].cohort, runs[0].key, ensemble.stored.protocol).id,
                label=describe_model(runs[0].config, runs[0].parameters).label,
                weight=weight / len(ensemble.stored.folds),
                results=sorted(hashes),
            )
        )
    return sorted(found, key=lambda member: (-member.weight, member.id))
