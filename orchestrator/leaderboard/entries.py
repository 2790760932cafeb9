"""One entry of the board from its fold runs: numbers over folds and seeds, cost, provenance. It is not ranked here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feature_store.errors import UserError
from feature_store.metrics import LABELS, Metric
from orchestrator.analysis import bootstrap
from orchestrator.analysis.bootstrap import PatientHits
from orchestrator.analysis.calibration import calibration_error
from orchestrator.analysis.labels import describe_model, describe_objective, pretraining
from orchestrator.analysis.patient_counts import Tally
from orchestrator.leaderboard.groups import Group
from orchestrator.leaderboard.result_cache import Kept
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Cost, Entry, Estimate, Numbers, Origin, Problem, Registered, SeedRow
from orchestrator.leaderboard.soundness import numbers_fault
from workers.evaluation import Metrics

CPU = "cpu"  # how a result names the device that is no GPU
TOLERANCE = 0.01  # percent points between a stored Score and that of the stored predictions


class Contradicted(UserError):
    """A stored number that the stored predictions do not give."""


@dataclass
class Candidate:
    """An entry before it is ranked.

    Attributes:
        entry: its `note` says why it must not be ranked, if so.
        config: what was trained.
        folds: hits of all seeds together, a fold each; empty where the entry has no numbers.
        problems: its fold runs that are left out, and why.
    """

    entry: Entry
    config: Mapping[str, Any]
    folds: list[PatientHits] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def make_entry(
    group: Group, kept: Kept, registered: Mapping[str, Mapping[str, Any]], shared: Sequence[str] = ()
) -> Candidate:
    """One config under one protocol.

    Args:
        group: its fold runs.
        kept: gives their predictions, condensed.
        registered: models by config hash.
        shared: patients on both sides of the split.
    """
    first = group.runs[0]
    problems: list[Problem] = []
    tallies: dict[int, list[Tally]] = {}
    note = None if group.used else f"{group.folds_done} of {group.folds} folds done"
    numbers, contradicted = None, False
    if group.used:
        try:
            tallies, problems = _tallies(group, kept)
            numbers = numbers_of(group.tests(), list(tallies.values()), group.metric)
        except UserError as error:
            note, tallies, contradicted = error.what, {}, isinstance(error, Contradicted)
        except ValueError as error:
            note, tallies = str(error), {}
    used = group.used
    if numbers is not None and note is None:
        note = defect(first.compat, numbers, group.metric)
    confusion = np.sum([group.test(run).confusion for run in used or group.runs], axis=0)
    entry = Entry(
        id=group.id,
        rank=None,
        note=note,
        contradicted=contradicted,
        model=describe_model(first.config, first.parameters),
        objective=describe_objective(first.config),
        numbers=numbers,
        folds=group.folds,
        folds_done=group.folds if used else group.folds_done,
        seeds=[_seed_row(group, seed, runs) for seed, runs in group.complete.items()],
        classes=list(first.cohort.classes),
        confusion=confusion.tolist(),
        recall=recall_of(confusion),
        test_watched=any(_watched(run) for run in group.runs),
        test_reads=max(run.test_reads for run in group.runs),
        without_shared=score_without(list(tallies.values()), shared),
        cycle_weighted=cycle_weighted(group.tests(), group.metric) if numbers else None,
        cost=cost_of(used or group.runs, max(1, len(group.complete))),
        pretraining=pretraining(first.config),
        compat=list(first.compat),
        cycles_hash=cycles_of(next(iter(tallies.values()))) if tallies else None,
        config_hash=first.key.config_hash,
        data_hash=first.key.data_hash,
        split_hash=first.key.split_hash,
        feature_id=first.key.feature_id,
        semantics=first.key.semantics,
        origin=origin_of(used or group.runs),
        results=[run.hash for run in used or group.runs],
        registered=_registered(registered.get(first.key.config_hash), first.key.data_hash),
    )
    of_seeds = [[one.hits for one in tally] for tally in tallies.values()]
    folds = [bootstrap.over_seeds(fold) for fold in zip(*of_seeds, strict=True)]
    return Candidate(entry, first.config, folds, problems)


def defect(compat: Sequence[str], numbers: Numbers, metric: Metric) -> str | None:
    """Why a copy of a source system's defect is not ranked; None where there is none."""
    if not compat:
        return None
    return f"copies a source system's defect ({', '.join(compat)}); {LABELS[metric]} {numbers.score.mean:.2f}"


def recall_of(confusion: np.ndarray) -> list[float | None]:
    """Percent, per class, from a confusion matrix with the truth in rows."""
    return [100.0 * row[i] / total if (total := sum(row)) else None for i, row in enumerate(confusion.tolist())]


def cycles_of(folds: Sequence[Tally]) -> str:
    """The hash of all folds' cycles, in their order; of one fold it is the fold's own."""
    hashes = [fold.cycles_hash for fold in folds]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _tallies(group: Group, kept: Kept) -> tuple[dict[int, list[Tally]], list[Problem]]:
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


def check_score(test: Metrics, one: Tally, of: str) -> None:
    """Check a test side's stored numbers.

    Raises:
        Contradicted: the value of the metric is not that of the stored predictions, or another number is not that of
            the stored confusion matrix.
    """
    metric, found = one.hits.metric, one.hits.score
    stored = test.value(metric)
    if not abs(found - stored) <= TOLERANCE:
        raise Contradicted(f"stored {LABELS[metric]} {stored:.2f} of {of} is {found:.2f} by its predictions")
    if fault := numbers_fault(test):
        raise Contradicted(f"{fault} in {of}")


def numbers_of(tests: Sequence[Sequence[Metrics]], tallies: Sequence[Sequence[Tally]], metric: Metric) -> Numbers:
    """Point estimates: of the metrics, and of the condensed predictions where folds are put together.

    Args:
        tests, tallies: ``[seeds][folds]``.
        metric: what the entry is ranked by.

    Raises:
        ValueError: a metric is not defined on the test side.
    """

    def over(value: Callable[[Metrics], float | None]) -> Estimate | None:
        """Mean over folds, then over seeds; where it is not defined it is left out."""
        seeds = [[found for test in folds if (found := value(test)) is not None] for folds in tests]
        means = [bootstrap.mean_and_sd(defined)[0] for defined in seeds if defined]
        return estimate(means) if means else None

    return Numbers(
        score=_defined(over(lambda metrics: metrics.value(metric))),
        specificity=_defined(over(lambda metrics: metrics.score_for(metric).specificity)),
        sensitivity=_defined(over(lambda metrics: metrics.score_for(metric).sensitivity)),
        icbhi2_score=_defined(over(lambda metrics: metrics.icbhi2.score)),
        icbhi2_sensitivity=_defined(over(lambda metrics: metrics.icbhi2.sensitivity)),
        uar=over(lambda metrics: metrics.uar),
        auroc=over(lambda metrics: metrics.auroc),
        accuracy=_defined(over(lambda metrics: metrics.accuracy)),
        ece=estimate([calibration_error(np.sum([one.calibration for one in folds], axis=0)) for folds in tallies]),
        pooled_score=pooled_score(tallies),
    )


def pooled_score(seeds: Sequence[Sequence[Tally]]) -> Estimate | None:
    """The metric of all folds' predictions put together, over seeds; None for a split of one fold.

    Args:
        seeds: ``[seeds][folds]``.
    """
    if not seeds or len(seeds[0]) == 1:
        return None
    return estimate([bootstrap.pooled([one.hits for one in folds]).score for folds in seeds])


def score_without(seeds: Sequence[Sequence[Tally]], shared: Sequence[str]) -> Estimate | None:
    """The metric without some patients, mean over folds, then over seeds; None where none of them was tested.

    A fold of which nobody is left is left out.
    """
    tested = {name for folds in seeds for one in folds for name in one.hits.patients}
    if not tested.intersection(shared):
        return None
    values = []
    for folds in seeds:
        rest = [one.hits.without(shared) for one in folds]
        defined = [hits.score for hits in rest if hits.patients]
        if defined:
            values.append(float(np.mean(defined)))
    return estimate(values) if values else None


def cycle_weighted(seeds: Sequence[Sequence[Metrics]], metric: Metric) -> Estimate | None:
    """Mean of the folds' values by their test cycles, then over seeds; None for a split of one fold."""
    if not seeds or len(seeds[0]) == 1:
        return None
    scores = np.array([[test.value(metric) for test in tests] for tests in seeds])
    cycles = np.array([[test.n for test in tests] for tests in seeds])
    return estimate(np.average(scores, axis=1, weights=cycles).tolist())


def cost_of(runs: Sequence[Run], seeds: int = 1) -> Cost:
    """What some trainings took together, by the number of seeds among them."""
    on_gpu = [run.train_seconds for run in runs if run.provenance.device != CPU]
    energy = [run.energy_kwh for run in runs if run.energy_kwh is not None]
    return Cost(
        train_minutes=sum(run.train_seconds for run in runs) / 60 / seeds,
        gpu_hours=sum(on_gpu) / 3600 / seeds if on_gpu else None,
        device=", ".join(sorted({run.provenance.device for run in runs})),
        energy_kwh=sum(energy) / seeds if len(energy) == len(runs) else None,
    )


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and deviation over seeds."""
    mean, sd = bootstrap.mean_and_sd(values)
    return Estimate(mean=mean, sd=sd)


def _defined(found: Estimate | None) -> Estimate:
    if found is None:
        raise ValueError("a metric is not defined on this test side")
    return found


def _seed_row(group: Group, seed: int, runs: Sequence[Run]) -> SeedRow:
    protocols = [run.protocols[group.protocol] for run in runs]
    held_out = [protocol.validation for protocol in protocols]
    epochs = [protocol.epoch for protocol in protocols]
    return seed_row(seed, epochs, [protocol.test for protocol in protocols], held_out, group.metric)


def seed_row(
    seed: int, epochs: list[int], tests: Sequence[Metrics], held_out: Sequence[Metrics | None], metric: Metric
) -> SeedRow:
    """The row of one seed or of an ensemble, over all its folds; held-out patients count where all folds have some.

    Args:
        seed, epochs: as in the row.
        tests, held_out: metrics of both sides, a fold each.
        metric: what the entry is ranked by.
    """

    def over(value: Callable[[Metrics], float], of: Sequence[Metrics] = tests) -> float:
        return bootstrap.mean_and_sd([value(metrics) for metrics in of])[0]

    validation = [metrics for metrics in held_out if metrics is not None]
    return SeedRow(
        seed=seed,
        epochs=epochs,
        score=over(lambda metrics: metrics.value(metric)),
        specificity=over(lambda metrics: metrics.score_for(metric).specificity),
        sensitivity=over(lambda metrics: metrics.score_for(metric).sensitivity),
        icbhi2_score=over(lambda metrics: metrics.icbhi2.score),
        fold_scores=[test.value(metric) for test in tests],
        validation_score=over(lambda metrics: metrics.value(metric), validation)
        if len(validation) == len(tests)
        else None,
    )


def _watched(run: Run) -> bool:
    return bool(run.config.get("training", {}).get("watch_test")) or run.test_reads > 1


def origin_of(runs: Sequence[Run]) -> Origin:
    def distinct(name: str) -> list[str]:
        return sorted({str(getattr(run.provenance, name)) for run in runs})

    listed = {name: distinct(name) for name in ("lungtune", "git_commit", "python", "torch", "device", "command")}
    return Origin(**listed, finished=max(run.provenance.finished for run in runs))


def _registered(info: Mapping[str, Any] | None, data_hash: str) -> Registered | None:
    """The registry's word on this config, unless it was trained on other data."""
    if info is None or info.get("data_hash", data_hash) != data_hash:
        return None
    return Registered(name=str(info["name"]), version=str(info["version"]), alias=info.get("alias"))
