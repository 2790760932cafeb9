"""Entries of configs: the fold runs of one config under one protocol, each seed checked against its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from feature_store.counted import counted
from feature_store.errors import UserError
from orchestrator.analysis.groups import Group
from orchestrator.analysis.labels import describe_model, describe_objective
from orchestrator.analysis.patient_counts import Tally
from orchestrator.leaderboard.entries import (
    Candidate,
    Measured,
    Subject,
    Tested,
    build_entry,
    check_score,
    cycles_of,
    measure,
    seed_row,
)
from orchestrator.leaderboard.result_cache import Kept
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Problem, Registered, SeedRow


def config_entry(
    group: Group[Run], kept: Kept, registered: Mapping[str, Mapping[str, Any]], shared: Sequence[str] = ()
) -> Candidate:
    """One config under one protocol, not yet ranked.

    Args:
        group: its fold runs.
        kept: gives their predictions, condensed.
        registered: models by config hash.
        shared: patients on both sides of the split.
    """
    first = group.runs[0]
    problems: list[Problem] = []

    def read() -> Tested:
        tallies, left_out = _tallies(group, kept)
        problems.extend(left_out)
        return group.tests(), list(tallies.values())

    measured = Measured(note=f"{group.folds_done} of {counted(group.folds, 'fold')} done")
    if group.used:
        measured = measure(read, group.metric)
    used = group.used
    subject = Subject(
        id=group.id,
        model=describe_model(first.config, first.parameters),
        objective=describe_objective(first.config),
        config=first.config,
        config_hash=first.key.config_hash,
        data_hash=first.key.data_hash,
        folds=group.folds,
        folds_done=group.folds if used else group.folds_done,
        seeds=[_seed_row(group, seed, runs) for seed, runs in group.complete.items()],
        tests=group.tests() or [[group.test(run) for run in group.runs]],
        runs=used or group.runs,
        started=group.runs,
        compat=first.compat,
        test_watched=any(_watched(run) for run in group.runs),
    )
    candidate = build_entry(subject, measured, shared)
    candidate.problems = problems
    candidate.entry.registered = _registered(registered.get(first.key.config_hash), first.key.data_hash)
    return candidate


def _tallies(group: Group[Run], kept: Kept) -> tuple[dict[int, list[Tally]], list[Problem]]:
    """Seed -> condensed predictions, a fold each, each checked against its stored metrics; and what is left out.

    A seed whose predictions cannot be used, or that was tested on other cycles or patients than most seeds, is taken
    out of the group, as one that lacks a fold is.

    Raises:
        UserError: no seed's predictions can be used.
        Contradicted: they do not give a stored value. A seed cannot be dropped by tampering with it.
        ValueError: the seeds were tested on different cycles, and no side is that of most.
    """
    found: dict[int, list[Tally]] = {}
    lost: dict[int, UserError] = {}
    for seed, runs in group.complete.items():
        try:
            found[seed] = [kept.tally(run.hash, group.protocol) for run in runs]
        except UserError as error:
            lost[seed] = error
            continue
        for run, one in zip(runs, found[seed], strict=True):
            check_score(group.test(run), one, f"result {run.hash[:12]}")
    if not found:
        raise next(iter(lost.values()))
    (usual, count), *others = Counter(map(cycles_of, found.values())).most_common()
    if others and 2 * count <= len(found):
        raise ValueError("the seeds were tested on different cycles or patients")
    other = {seed for seed, folds in found.items() if cycles_of(folds) != usual}
    why = {seed: error.what for seed, error in lost.items()}
    why |= dict.fromkeys(other, "was tested on other cycles or patients than most seeds of its config")
    problems = [Problem(result=run.hash, what=why[seed]) for seed in why for run in group.complete[seed]]
    for seed in why:
        group.leave_out(seed)
    return {seed: folds for seed, folds in found.items() if seed not in other}, problems


def _seed_row(group: Group[Run], seed: int, runs: Sequence[Run]) -> SeedRow:
    protocols = [run.protocols[group.protocol] for run in runs]
    held_out = [protocol.validation for protocol in protocols]
    epochs = [protocol.epoch for protocol in protocols]
    return seed_row(seed, epochs, [protocol.test for protocol in protocols], held_out, group.metric)


def _watched(run: Run) -> bool:
    return bool(run.config.get("training", {}).get("watch_test")) or run.test_reads > 1


def _registered(info: Mapping[str, Any] | None, data_hash: str) -> Registered | None:
    """The registry's word on this config, unless it was trained on other data."""
    if info is None or info.get("data_hash", data_hash) != data_hash:
        return None
    return Registered(name=str(info["name"]), version=str(info["version"]), alias=info.get("alias"))
