"""Which fold runs make an ensemble, and how the ensemble compares with its members and with single configs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from feature_store.counted import counted
from feature_store.errors import UserError, nearest
from orchestrator.analysis import bootstrap
from orchestrator.analysis.bootstrap import PatientHits
from orchestrator.analysis.groups import Cohort, grouped, groups_of, split_folds
from orchestrator.analysis.labels import describe_model
from workers.ensembles import EnsembleMember, EnsembleResult, EnsembleStore
from workers.predictions import Predictions, of_table, predictions_of
from workers.results import READERS, FoldResult, ResultStore

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Training:
    """One member: a config with one seed, over all folds.

    Attributes:
        weight, validation_score, score, specificity, sensitivity: means over folds, the scores by the task's own
            metric; `interval` is that of `score`, over the patients of the test sides.
        results: its fold runs.
    """

    model: str
    config_hash: str
    seed: int
    weight: float
    validation_score: float
    score: float
    specificity: float
    sensitivity: float
    interval: Interval
    results: list[str]


@dataclass(frozen=True)
class Standing:
    """An ensemble beside its members and beside what else the store has, by the task's own metric.

    Attributes:
        interval: of what it reaches, 95 %, over patients.
        trainings: its members, the largest weight first.
        gain: what it reaches minus the mean of its members, with the interval of that difference: both over the same
            resamples of patients.
        place, of: its rank among the single configs that are complete on the same data, and how many rank; the place
            is None where the ensemble lacks folds.
    """

    interval: Interval
    trainings: list[Training]
    gain: float
    gain_interval: Interval
    place: int | None
    of: int


def best_results(
    results: ResultStore, *, dataset: str, task: str, split: str, protocol: str, top: int
) -> list[FoldResult]:
    """All fold runs of the best configs by the task's metric on held-out patients; the test side is not asked.

    Compared are configs over the same seeds, and so over the same held-out patients: as many seeds as `top` configs
    have finished over all folds.

    Raises:
        UserError: there are fewer than `top` such configs, or the split's name is that of several sets of cycles.
    """
    everything = _read(results)
    of_split = [r for r in everything if (r.data.dataset, r.data.task, r.key.split) == (dataset, task, split)]
    where = f"{dataset}, {task}, {split}"
    if not of_split:
        known = sorted({r.key.split for r in everything if (r.data.dataset, r.data.task) == (dataset, task)})
        hint = nearest(split, known) if known else "`lungtune train` and `lungtune sweep` make some"
        raise UserError("no finished fold run", where=where, hint=hint)
    cohorts = {Cohort.of(result) for result in of_split}
    if len(cohorts) > 1:
        raise UserError(
            "the store has fold runs on several sets of cycles under this name",
            where=where,
            hint="name the results by their hashes",
        )
    newest = max(result.key.semantics for result in of_split)  # an older version's numbers are not this one's
    groups = [
        group
        for group in groups_of(cohorts.pop(), [r for r in of_split if r.key.semantics == newest], protocol)
        if group.complete and all(run.protocols[protocol].validation for run in group.used)
    ]
    seeds = _shared_seeds([frozenset(group.complete) for group in groups], top)
    if seeds is None:
        raise UserError(
            f"{counted(len(groups), 'config is', 'configs are')} complete under protocol '{protocol}', "
            f"and {top} are asked for",
            where=where,
            hint="ask for fewer with --top, or train further ones",
        )
    candidates = [
        [run for seed in sorted(seeds) for run in group.complete[seed]]
        for group in groups
        if seeds <= group.complete.keys()
    ]
    candidates.sort(key=lambda runs: (-_held_out_score(runs, protocol), runs[0].key.config_hash))
    return [run for runs in candidates[:top] for run in runs]


def standing(results: ResultStore, ensemble: EnsembleResult, resamples: int = bootstrap.RESAMPLES) -> Standing:
    """How far the ensemble's number can be trusted, and what it gains."""
    by_training = grouped(ensemble.members, lambda member: (member.config_hash, member.seed))
    folds = [fold.fold for fold in ensemble.folds]
    predictions = EnsembleStore(results.storage).predictions(ensemble.hash)
    own = [_hits(of_table(predictions.filter(pc.equal(predictions["fold"], fold))), ensemble) for fold in folds]
    hits = []
    for members in by_training.values():
        ordered = sorted(members, key=lambda member: member.fold)
        hits.append([_hits(predictions_of(results, m.hash, ensemble.protocol), ensemble) for m in ordered])
    mean = [bootstrap.over_seeds([of_training[index] for of_training in hits]) for index in range(len(folds))]
    samples = bootstrap.bootstrap([own, mean, *hits], resamples)
    trainings = [
        _training(results, members, ensemble, bootstrap.interval(drawn))
        for members, drawn in zip(by_training.values(), samples[2:], strict=True)
    ]
    trainings.sort(key=lambda training: (-training.weight, -training.validation_score, training.config_hash))
    whole = len(folds) == split_folds(ensemble.split)
    others = _single_configs(results, ensemble)
    return Standing(
        interval=bootstrap.interval(samples[0]),
        trainings=trainings,
        gain=ensemble.overall.score - float(np.mean([training.score for training in trainings])),
        gain_interval=bootstrap.interval(samples[0] - samples[1]),
        place=1 + sum(score > ensemble.overall.score for score in others) if whole else None,
        of=1 + len(others),
    )


def _training(
    results: ResultStore, members: Sequence[EnsembleMember], ensemble: EnsembleResult, interval: Interval
) -> Training:
    runs = [run for member in members if (run := results.get(member.hash)) is not None]
    tests = [run.protocols[ensemble.protocol].test.score_for(ensemble.metric) for run in runs]
    return Training(
        model=describe_model(runs[0].config, int(runs[0].model["parameters"])).label,
        config_hash=members[0].config_hash,
        seed=members[0].seed,
        weight=float(np.mean([member.weight for member in members])),
        validation_score=float(np.mean([member.validation_score for member in members])),
        score=float(np.mean([member.test_score for member in members])),
        specificity=float(np.mean([test.specificity for test in tests])),
        sensitivity=float(np.mean([test.sensitivity for test in tests])),
        interval=interval,
        results=[member.hash for member in members],
    )


def _hits(found: Predictions, ensemble: EnsembleResult) -> PatientHits:
    """Hits by patient of one fold's predictions."""
    predicted = found.logits.argmax(axis=1)
    return bootstrap.patient_hits(predicted, found.labels, found.patients, ensemble.metric, len(ensemble.classes))


def _single_configs(results: ResultStore, ensemble: EnsembleResult) -> list[float]:
    """What the configs that are complete on the ensemble's data reach: mean over folds, then over seeds."""
    everything, protocol, metric = _read(results), ensemble.protocol, ensemble.metric
    cohort = next(Cohort.of(result) for result in everything if result.hash == ensemble.members[0].hash)
    groups = groups_of(cohort, [result for result in everything if Cohort.of(result) == cohort], protocol)
    return [
        float(np.mean([[test.value(metric) for test in folds] for folds in group.tests()]))
        for group in groups
        if group.complete
    ]


def _read(results: ResultStore) -> list[FoldResult]:
    with ThreadPoolExecutor(READERS) as pool:
        return [result for result in pool.map(results.get, results.hashes()) if result is not None]


def _shared_seeds(of_configs: Sequence[frozenset[int]], top: int) -> frozenset[int] | None:
    """The largest set of seeds that a config has and `top` configs share; of equal ones that of most configs."""
    shared_by = Counter({seeds: sum(seeds <= others for others in of_configs) for seeds in set(of_configs)})
    possible = [seeds for seeds, count in shared_by.items() if count >= top]
    return max(possible, key=lambda s: (len(s), shared_by[s], sorted(s, reverse=True)), default=None)


def _held_out_score(runs: Sequence[FoldResult], protocol: str) -> float:
    validation = [run.protocols[protocol].validation for run in runs]
    metric = runs[0].data.metric
    return float(np.mean([metrics.value(metric) for metrics in validation if metrics is not None]))
