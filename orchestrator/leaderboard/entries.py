"""One entry of the board from its fold runs: numbers over folds and seeds, interval, curves, provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from feature_store.errors import UserError
from orchestrator.leaderboard import statistics
from orchestrator.leaderboard.labels import describe_model, describe_objective
from orchestrator.leaderboard.runs import PredictionReader, Run
from orchestrator.leaderboard.schema import Curve, Entry, Estimate, Numbers, Origin, Registered, SeedRow
from workers.evaluation import Metrics, evaluate

TOLERANCE = 0.01  # percent points between a stored Score and that of the stored predictions


class Group:
    """The fold runs of one config on one cohort under one protocol.

    Attributes:
        runs: sorted by seed and fold.
        folds: how many folds the split has.
        complete: seed -> its runs, in the order of the folds, for the seeds that have them all.
    """

    def __init__(self, runs: Sequence[Run], protocol: str, folds: int) -> None:
        self.runs = sorted(runs, key=lambda run: (run.key.seed, run.key.fold, run.hash))
        self.protocol, self.folds = protocol, folds
        by_seed: dict[int, list[Run]] = {}
        for run in self.runs:
            by_seed.setdefault(run.key.seed, []).append(run)
        self.folds_done = min(len(of_seed) for of_seed in by_seed.values())
        self.complete = {seed: of_seed for seed, of_seed in by_seed.items() if len(of_seed) == folds}
        self.begun = sorted(by_seed)

    @property
    def id(self) -> str:
        """Stable name: what the runs share."""
        key = self.runs[0].key
        parts = (key.semantics, key.config_hash, key.data_hash, key.split, key.split_hash, self.protocol)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:12]

    @property
    def used(self) -> list[Run]:
        """The runs behind the numbers."""
        return [run for runs in self.complete.values() for run in runs]

    def test(self, run: Run) -> Metrics:
        return run.protocols[self.protocol].test

    def over_seeds(self, value: Callable[[Metrics], float | None]) -> list[float]:
        """Mean over folds, a number a seed; seeds and folds in which it is not defined are left out."""
        means = []
        for runs in self.complete.values():
            defined = [found for run in runs if (found := value(self.test(run))) is not None]
            if defined:
                means.append(float(np.mean(defined)))
        return means

    def estimate(self, value: Callable[[Metrics], float | None]) -> Estimate | None:
        values = self.over_seeds(value)
        if not values:
            return None
        mean, sd = statistics.mean_and_sd(values)
        return Estimate(mean=mean, sd=sd)


def make_entry(
    group: Group, predictions: PredictionReader, registered: Mapping[str, Mapping[str, Any]], resamples: int
) -> Entry:
    """The entry, not yet ranked. Its `note` says why it must not be, if so."""
    first, used = group.runs[0], group.used
    note = None if used else f"{group.folds_done} of {group.folds} folds done"
    numbers = None
    if used:
        try:
            numbers = _numbers(group, predictions, resamples)
        except UserError as error:
            note = error.what
        except ValueError as error:
            note = str(error)
    if first.compat and numbers is not None and note is None:
        note = f"copies a source system's defect ({', '.join(first.compat)}); Score {numbers.score.mean:.2f}"
    confusion = np.sum([group.test(run).confusion for run in used or group.runs], axis=0)
    return Entry(
        id=group.id,
        rank=None,
        note=note,
        model=describe_model(first.config, first.parameters),
        objective=describe_objective(first.config),
        numbers=numbers,
        folds=group.folds,
        folds_done=group.folds if used else group.folds_done,
        seeds=[_seed_row(group, seed, runs) for seed, runs in group.complete.items()],
        classes=list(first.cohort.classes),
        confusion=confusion.tolist(),
        recall=[100.0 * row[i] / total if (total := sum(row)) else None for i, row in enumerate(confusion.tolist())],
        curves=[_curve(run, group.protocol) for run in used or group.runs],
        test_watched=any(_watched(run) for run in group.runs),
        test_reads=max(run.test_reads for run in group.runs),
        training_minutes=sum(run.train_seconds for run in used or group.runs) / 60 / max(1, len(group.complete)),
        compat=list(first.compat),
        config_hash=first.key.config_hash,
        data_hash=first.key.data_hash,
        split_hash=first.key.split_hash,
        feature_id=first.key.feature_id,
        semantics=first.key.semantics,
        config=first.config,
        origin=_origin(used or group.runs),
        results=[run.hash for run in used or group.runs],
        registered=_registered(registered.get(first.key.config_hash), first.key.data_hash),
    )


def _numbers(group: Group, predictions: PredictionReader, resamples: int) -> Numbers:
    """Point estimates from the stored metrics, interval and pooled Score from the stored predictions.

    Raises:
        UserError: predictions are missing, or do not give the stored Score.
        ValueError: the seeds were tested on different cycles.
    """
    seeds = list(group.complete.values())
    for run in group.used:
        found, stored = predictions.get(run, group.protocol).hits.score, group.test(run).icbhi4.score
        if abs(found - stored) > TOLERANCE:
            raise UserError(f"stored Score {stored:.2f} of result {run.hash[:12]} is {found:.2f} by its predictions")
    folds = [
        statistics.mean_over_seeds([predictions.get(runs[fold], group.protocol).hits for runs in seeds])
        for fold in range(group.folds)
    ]
    score = group.estimate(lambda metrics: metrics.icbhi4.score)
    found_interval = statistics.interval(statistics.bootstrap(folds, resamples))
    assert score is not None
    if found_interval:
        score = score.model_copy(update={"low": found_interval[0], "high": found_interval[1]})
    return Numbers(
        score=score,
        specificity=_defined(group.estimate(lambda metrics: metrics.icbhi4.specificity)),
        sensitivity=_defined(group.estimate(lambda metrics: metrics.icbhi4.sensitivity)),
        icbhi2_score=_defined(group.estimate(lambda metrics: metrics.icbhi2.score)),
        icbhi2_sensitivity=_defined(group.estimate(lambda metrics: metrics.icbhi2.sensitivity)),
        uar=group.estimate(lambda metrics: metrics.uar),
        auroc=group.estimate(lambda metrics: metrics.auroc),
        accuracy=_defined(group.estimate(lambda metrics: metrics.accuracy)),
        pooled_score=pooled_score(group, predictions),
    )


def pooled_score(group: Group, predictions: PredictionReader) -> Estimate | None:
    """Score of all folds' predictions put together, over seeds; None for a split of one fold."""
    if group.folds == 1 or not group.complete:
        return None
    values = []
    for runs in group.complete.values():
        folds = [predictions.get(run, group.protocol) for run in runs]
        logits, labels = np.concatenate([f.logits for f in folds]), np.concatenate([f.labels for f in folds])
        values.append(evaluate(logits, labels).icbhi4.score)
    mean, sd = statistics.mean_and_sd(values)
    return Estimate(mean=mean, sd=sd)


def _defined(estimate: Estimate | None) -> Estimate:
    if estimate is None:
        raise ValueError("a metric is not defined on this test side")
    return estimate


def _seed_row(group: Group, seed: int, runs: Sequence[Run]) -> SeedRow:
    tests = [group.test(run) for run in runs]
    held_out = [run.protocols[group.protocol].validation for run in runs]
    validation = [metrics.icbhi4.score for metrics in held_out if metrics is not None]
    return SeedRow(
        seed=seed,
        epochs=[run.protocols[group.protocol].epoch for run in runs],
        score=float(np.mean([test.icbhi4.score for test in tests])),
        specificity=float(np.mean([test.icbhi4.specificity for test in tests])),
        sensitivity=float(np.mean([test.icbhi4.sensitivity for test in tests])),
        icbhi2_score=float(np.mean([test.icbhi2.score for test in tests])),
        fold_scores=[test.icbhi4.score for test in tests],
        validation_score=float(np.mean(validation)) if validation else None,
    )


def _curve(run: Run, protocol: str) -> Curve:
    return Curve(
        seed=run.key.seed,
        fold=run.key.fold,
        chosen=run.protocols[protocol].epoch,
        validation=list(run.validation_curve),
        train_loss=list(run.loss_curve),
    )


def _watched(run: Run) -> bool:
    return bool(run.config.get("training", {}).get("watch_test")) or run.test_reads > 1


def _origin(runs: Sequence[Run]) -> Origin:
    def distinct(name: str) -> list[str]:
        return sorted({str(getattr(run.provenance, name)) for run in runs})

    listed = {name: distinct(name) for name in ("lungtune", "git_commit", "python", "torch", "device", "command")}
    return Origin(**listed, finished=max(run.provenance.finished for run in runs))


def _registered(info: Mapping[str, Any] | None, data_hash: str) -> Registered | None:
    """The registry's word on this config, unless it was trained on other data."""
    if info is None or info.get("data_hash", data_hash) != data_hash:
        return None
    return Registered(name=str(info["name"]), version=str(info["version"]), alias=info.get("alias"))
