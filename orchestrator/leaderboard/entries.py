"""The one builder of the board's entries: numbers over folds and seeds, cost, provenance. They are not ranked here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feature_store.errors import UserError
from feature_store.metrics import LABELS, Metric
from orchestrator.analysis import bootstrap
from orchestrator.analysis.bootstrap import PatientHits
from orchestrator.analysis.calibration import calibration_error
from orchestrator.analysis.items import Estimate, Model, Objective
from orchestrator.analysis.labels import pretraining
from orchestrator.analysis.patient_counts import Tally
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Cost, Entry, Numbers, Origin, Problem, SeedRow
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


@dataclass(frozen=True)
class Subject:
    """What an entry is about: a config over its seeds and folds, or an ensemble.

    Attributes:
        id, model, objective, folds, folds_done, seeds, compat, test_watched, config_hash, data_hash: as in `Entry`.
        config: what was trained.
        tests: metrics of the test sides, ``[seeds][folds]``; of incomplete seeds where no other is there.
        runs: the trainings behind the numbers; as `tests`.
        started: all trainings.
    """

    id: str
    model: Model
    objective: Objective
    config: Mapping[str, Any]
    config_hash: str
    data_hash: str
    folds: int
    folds_done: int
    seeds: list[SeedRow]
    tests: Sequence[Sequence[Metrics]]
    runs: Sequence[Run]
    started: Sequence[Run]
    compat: Sequence[str]
    test_watched: bool


@dataclass(frozen=True)
class Measured:
    """What an entry's stored predictions give.

    Attributes:
        numbers: None where folds are missing or predictions cannot be used.
        tallies: the condensed predictions, ``[seeds][folds]``; empty where there are no numbers.
        note: why there are none.
        contradicted: the predictions do not give a stored number.
    """

    numbers: Numbers | None = None
    tallies: Sequence[Sequence[Tally]] = ()
    note: str | None = None
    contradicted: bool = False


Tested = tuple[Sequence[Sequence[Metrics]], Sequence[Sequence[Tally]]]
"""Stored metrics of the test sides, and the condensed predictions: both ``[seeds][folds]``."""


def measure(read: Callable[[], Tested], metric: Metric) -> Measured:
    """Read an entry's predictions; without usable ones it has no numbers, and the reason as its note.

    Args:
        read: reads them, and raises `UserError` or `ValueError` where they cannot be used.
        metric: what the entry is ranked by.
    """
    try:
        tests, tallies = read()
        return Measured(numbers_of(tests, tallies, metric), tallies)
    except UserError as error:
        return Measured(note=error.what, contradicted=isinstance(error, Contradicted))
    except ValueError as error:
        return Measured(note=str(error))


def build_entry(subject: Subject, measured: Measured, shared: Sequence[str]) -> Candidate:
    """The entry of a config or an ensemble, not yet ranked.

    Args:
        subject: what it is about.
        measured: what its predictions give.
        shared: patients on both sides of the split.
    """
    runs, numbers, tallies = subject.runs, measured.numbers, measured.tallies
    cohort = runs[0].cohort
    confusion = np.sum([test.confusion for folds in subject.tests for test in folds], axis=0)
    corpora = {known for run in runs if (known := pretraining(run.config))}
    entry = Entry(
        id=subject.id,
        rank=None,
        note=measured.note if numbers is None else defect(subject.compat, numbers, cohort.metric),
        contradicted=measured.contradicted,
        model=subject.model,
        objective=subject.objective,
        numbers=numbers,
        folds=subject.folds,
        folds_done=subject.folds_done,
        seeds=subject.seeds,
        classes=list(cohort.classes),
        confusion=confusion.tolist(),
        recall=recall_of(confusion),
        test_watched=subject.test_watched,
        test_reads=max(run.test_reads for run in subject.started),
        without_shared=score_without(tallies, shared),
        cycle_weighted=cycle_weighted(subject.tests, cohort.metric) if numbers else None,
        cost=cost_of(runs, max(1, len(subject.seeds))),
        pretraining=", ".join(sorted(corpora)) or None,
        compat=list(subject.compat),
        cycles_hash=cycles_of(tallies[0]) if tallies else None,
        config_hash=subject.config_hash,
        data_hash=subject.data_hash,
        split_hash=cohort.split_hash,
        feature_id=", ".join(sorted({run.key.feature_id for run in runs})),
        semantics=max(run.key.semantics for run in runs),
        origin=origin_of(runs),
        results=[run.hash for run in runs],
    )
    of_folds = zip(*([one.hits for one in folds] for folds in tallies), strict=True)
    return Candidate(entry, subject.config, [bootstrap.over_seeds(list(of_fold)) for of_fold in of_folds])


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
        return Estimate.of(means) if means else None

    return Numbers(
        score=_defined(over(lambda metrics: metrics.value(metric))),
        specificity=_defined(over(lambda metrics: metrics.score_for(metric).specificity)),
        sensitivity=_defined(over(lambda metrics: metrics.score_for(metric).sensitivity)),
        icbhi2_score=_defined(over(lambda metrics: metrics.icbhi2.score)),
        icbhi2_sensitivity=_defined(over(lambda metrics: metrics.icbhi2.sensitivity)),
        uar=over(lambda metrics: metrics.uar),
        auroc=over(lambda metrics: metrics.auroc),
        accuracy=_defined(over(lambda metrics: metrics.accuracy)),
        ece=Estimate.of([calibration_error(np.sum([one.calibration for one in folds], axis=0)) for folds in tallies]),
        pooled_score=pooled_score(tallies),
    )


def pooled_score(seeds: Sequence[Sequence[Tally]]) -> Estimate | None:
    """The metric of all folds' predictions put together, over seeds; None for a split of one fold.

    Args:
        seeds: ``[seeds][folds]``.
    """
    if not seeds or len(seeds[0]) == 1:
        return None
    return Estimate.of([bootstrap.pooled([one.hits for one in folds]).score for folds in seeds])


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
    return Estimate.of(values) if values else None


def cycle_weighted(seeds: Sequence[Sequence[Metrics]], metric: Metric) -> Estimate | None:
    """Mean of the folds' values by their test cycles, then over seeds; None for a split of one fold."""
    if not seeds or len(seeds[0]) == 1:
        return None
    scores = np.array([[test.value(metric) for test in tests] for tests in seeds])
    cycles = np.array([[test.n for test in tests] for tests in seeds])
    return Estimate.of(np.average(scores, axis=1, weights=cycles).tolist())


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


def _defined(found: Estimate | None) -> Estimate:
    if found is None:
        raise ValueError("a metric is not defined on this test side")
    return found


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


def origin_of(runs: Sequence[Run]) -> Origin:
    def distinct(name: str) -> list[str]:
        return sorted({str(getattr(run.provenance, name)) for run in runs})

    listed = {name: distinct(name) for name in ("lungtune", "git_commit", "python", "torch", "device", "command")}
    return Origin(**listed, finished=max(run.provenance.finished for run in runs))
