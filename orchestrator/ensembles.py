"""Which fold runs make an ensemble, and where the ensemble stands beside its members and the single configs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc

from feature_store.errors import UserError, nearest
from orchestrator.analysis import bootstrap
from orchestrator.analysis.bootstrap import PatientHits
from orchestrator.analysis.groups import split_folds
from orchestrator.analysis.labels import describe_model
from orchestrator.analysis.predictions import Predictions, of_table, predictions_of
from workers.ensembles import EnsembleMember, EnsembleResult, EnsembleStore
from workers.results import FoldResult, ResultStore

READERS = 8
T = TypeVar("T")
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
        UserError: there are fewer than `top` such configs, or the split's name stands for several sets of cycles.
    """
    everything = _read(results)
    of_split = [r for r in everything if (r.data.dataset, r.data.task, r.key.split) == (dataset, task, split)]
    where = f"{dataset}, {task}, {split}"
    if not of_split:
        known = sorted({r.key.split for r in everything if (r.data.dataset, r.data.task) == (dataset, task)})
        hint = nearest(split, known) if known else "`lungtune train` and `lungtune sweep` make some"
        raise UserError("no finished fold run", where=where, hint=hint)
    if len({_cohort(result) for result in of_split}) > 1:
        raise UserError(
            "the store has fold runs on several sets of cycles under this name",
            where=where,
            hint="name the results by their hashes",
        )
    newest = max(result.key.semantics for result in of_split)  # an older version's numbers are not this one's
    configs = {
        name: seeds
        for name, seeds in _complete([r for r in of_split if r.key.semantics == newest], protocol).items()
        if all(run.protocols[protocol].validation for runs in seeds.values() for run in runs)
    }
    seeds = _shared_seeds([frozenset(seeds) for seeds in configs.values()], top)
    if seeds is None:
        raise UserError(
            f"{len(configs)} configs are complete under protocol '{protocol}', and {top} are asked for",
            where=where,
            hint="ask for fewer with --top, or train further ones",
        )
    candidates = [[run for seed in sorted(seeds) for run in of[seed]] for of in configs.values() if seeds <= set(of)]
    candidates.sort(key=lambda runs: (-_held_out_score(runs, protocol), runs[0].key.config_hash))
    return [run for runs in candidates[:top] for run in runs]


def standing(results: ResultStore, ensemble: EnsembleResult, resamples: int = bootstrap.RESAMPLES) -> Standing:
    """How far the ensemble's number can be trusted, and what it gains."""
    by_training = _grouped(ensemble.members, lambda member: (member.config_hash, member.seed))
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
    others = [_score(seeds, ensemble) for seeds in _single_configs(results, ensemble)]
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


def _hits(said: Predictions, ensemble: EnsembleResult) -> PatientHits:
    """Hits by patient of one fold's predictions."""
    predicted = said.logits.argmax(axis=1)
    return bootstrap.patient_hits(predicted, said.labels, said.patients, ensemble.metric, len(ensemble.classes))


# --- single configs ---


def _read(results: ResultStore) -> list[FoldResult]:
    with ThreadPoolExecutor(READERS) as pool:
        return [result for result in pool.map(results.get, results.hashes()) if result is not None]


def _cohort(result: FoldResult) -> tuple[Any, ...]:
    """What two fold runs must share to be compared."""
    key, data = result.key, result.data
    extent = data.synthetic, data.recordings, data.recordings_listed
    return data.dataset, data.task, key.split, key.split_hash, tuple(data.classes), *extent


def _single_configs(results: ResultStore, ensemble: EnsembleResult) -> list[dict[int, list[FoldResult]]]:
    """The configs that are complete on the ensemble's data: seed -> fold runs."""
    e = ensemble
    wanted = e.dataset, e.task, e.split, e.split_hash, tuple(e.classes), e.synthetic, e.recordings, e.recordings_listed
    return list(_complete([r for r in _read(results) if _cohort(r) == wanted], e.protocol).values())


def _complete(runs: Iterable[FoldResult], protocol: str) -> dict[Any, dict[int, list[FoldResult]]]:
    """Config -> seed -> its fold runs in order, for the seeds that have every fold."""
    found: dict[Any, dict[int, list[FoldResult]]] = {}
    scored = [run for run in runs if protocol in run.protocols]
    training = _grouped(scored, lambda r: (r.key.config_hash, r.key.data_hash, r.key.semantics, r.key.seed))
    for (*config, seed), of_seed in training.items():
        if len(of_seed) == split_folds(of_seed[0].key.split):
            found.setdefault(tuple(config), {})[seed] = sorted(of_seed, key=lambda run: run.key.fold)
    return found


def _shared_seeds(of_configs: Sequence[frozenset[int]], top: int) -> frozenset[int] | None:
    """The largest set of seeds that a config has and `top` configs share; of equal ones that of most configs."""
    shared_by = Counter({seeds: sum(seeds <= others for others in of_configs) for seeds in set(of_configs)})
    possible = [seeds for seeds, count in shared_by.items() if count >= top]
    return max(possible, key=lambda s: (len(s), shared_by[s], sorted(s, reverse=True)), default=None)


def _held_out_score(runs: Sequence[FoldResult], protocol: str) -> float:
    validation = [run.protocols[protocol].validation for run in runs]
    metric = runs[0].data.metric
    return float(np.mean([metrics.value(metric) for metrics in validation if metrics is not None]))


def _score(seeds: dict[int, list[FoldResult]], ensemble: EnsembleResult) -> float:
    """Mean over folds of the ensemble's metric on the test side, then over seeds, as on the leaderboard."""
    protocol, metric = ensemble.protocol, ensemble.metric
    return float(np.mean([[run.protocols[protocol].test.value(metric) for run in runs] for runs in seeds.values()]))


def _grouped(things: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups
