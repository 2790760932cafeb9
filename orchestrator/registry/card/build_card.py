"""A model card from fold runs: numbers, interval and devices from their predictions, the rest from their records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from feature_store.metrics import Metric
from orchestrator.analysis import bootstrap
from orchestrator.analysis.groups import split_folds
from orchestrator.analysis.labels import describe_model
from orchestrator.registry.card.card import CardEstimate, DeviceRow, ModelCard, Pretrained, SearchPart
from orchestrator.registry.package import dependencies
from workers.config import ExperimentConfig
from workers.evaluation import Metrics, evaluate_by
from workers.models.published_weights import published
from workers.predictions import Predictions, predictions_of
from workers.results import WEIGHTS, FoldResult, ResultStore


def best_seed(config: ExperimentConfig, results: Sequence[FoldResult]) -> FoldResult:
    """The run that does best on its held-out patients, under the config's protocol; of equal ones the first."""
    protocol, metric = config.training.protocol, results[0].data.metric

    def held_out(result: FoldResult) -> float:
        validation = result.protocols[protocol].validation
        return validation.value(metric) if validation else 0.0

    return max(results, key=held_out)


def make_card(
    name: str,
    config: ExperimentConfig,
    results: Sequence[FoldResult],
    store: ResultStore,
    search: SearchPart | None = None,
) -> ModelCard:
    """What is to be said of a config's fold runs over the folds and seeds of a split.

    Args:
        name: of the registered model.
        config: of all the runs.
        results: one or more, each of another fold or seed.
        store: holds their predictions and weights.
        search: how the search saw the config, see `search_part`.

    Raises:
        UserError: the store lacks predictions or weights of a run.
    """
    results = sorted(results, key=lambda result: (result.key.seed, result.key.fold))
    protocol, first, chosen = config.training.protocol, results[0], best_seed(config, results)
    metric, said = first.data.metric, _read(results, protocol, store)
    described = describe_model(first.config, int(first.model["parameters"]))
    on_gpu = [result for result in results if result.provenance.device != "cpu"]
    energy = [result.timing["energy_kwh"] for result in results if "energy_kwh" in result.timing]

    def estimate(value: Callable[[Metrics], float]) -> CardEstimate:
        return estimate_of(results, protocol, value)

    return ModelCard(
        name=name,
        family=described.family,
        model=described.label,
        parameters=described.parameters,
        objective=config.objective.name,
        pretrained=_pretrained(config),
        score=estimate(lambda metrics: metrics.value(metric)).model_copy(update=score_interval(results, said, metric)),
        specificity=estimate(lambda metrics: metrics.score_for(metric).specificity),
        sensitivity=estimate(lambda metrics: metrics.score_for(metric).sensitivity),
        score_icbhi2=estimate(lambda metrics: metrics.icbhi2.score),
        metric=metric,
        devices=_devices(results, said, metric),
        search=search,
        dataset=config.dataset,
        task=config.task,
        classes=first.data.classes,
        split=first.key.split,
        folds=split_folds(first.key.split),
        protocol=protocol,
        seeds=sorted({result.key.seed for result in results}),
        runs=[(result.key.seed, result.key.fold) for result in results],
        weights_seed=chosen.key.seed,
        weights_fold=chosen.key.fold,
        recordings=first.data.recordings,
        recordings_listed=first.data.recordings_listed,
        synthetic=first.data.synthetic,
        train_cycles=first.data.train,
        validation_cycles=first.data.validation,
        test_cycles=sum(result.data.test for result in results if result.key.seed == first.key.seed),
        train_patients=first.data.train_patients,
        test_patients=sum(result.data.test_patients for result in results if result.key.seed == first.key.seed),
        patients_on_both_sides=_both_sides(results),
        compat=sorted({switch for result in results for switch in result.compat}),
        test_reads=max(result.test_reads for result in results),
        config_hash=config.config_hash,
        data_hash=first.key.data_hash,
        split_hash=first.key.split_hash,
        feature_id=first.key.feature_id,
        semantics=first.key.semantics,
        results=sorted(result.hash for result in results),
        weights_result=chosen.hash,
        weights_sha256=hashlib.sha256(store.read(chosen.hash, WEIGHTS)).hexdigest(),
        lungtune=first.provenance.lungtune,
        git_commit=first.provenance.git_commit,
        python=first.provenance.python,
        torch=first.provenance.torch,
        dependencies=dependencies(config),
        trained_on=sorted({result.provenance.device for result in results}),
        finished=max(result.provenance.finished for result in results),
        train_seconds=sum(result.timing["train_seconds"] for result in results),
        gpu_hours=sum(result.timing["train_seconds"] for result in on_gpu) / 3600 if on_gpu else None,
        energy_kwh=sum(energy) if len(energy) == len(results) else None,
        feature_seconds=config.feature.seconds,
        sample_rate=config.feature.sample_rate,
        table=config.feature.table,
    )


def search_part(
    study: str, objective: float, hashes: Sequence[str], protocol: str, store: ResultStore, metric: Metric
) -> SearchPart:
    """How the search saw a config, with the interval of the task's metric over the search's folds.

    Args:
        study: name of the study.
        objective: the mean that it maximised.
        hashes: the trial's fold runs; without them, or where one is gone, there is no interval.
        protocol: whose epoch the search scored.
        store: holds their predictions.
        metric: the task's own, whatever the search maximised.
    """
    found = [store.get(name) for name in hashes]
    results = [result for result in found if result is not None]
    if not results or len(results) < len(found):
        return SearchPart(study=study, objective=objective)
    score = estimate_of(results, protocol, lambda metrics: metrics.value(metric))
    return SearchPart(
        study=study,
        objective=objective,
        split=results[0].key.split,
        split_hash=results[0].key.split_hash,
        folds=sorted({result.key.fold for result in results}),
        seeds=sorted({result.key.seed for result in results}),
        protocol=protocol,
        score=score.model_copy(update=score_interval(results, _read(results, protocol, store), metric)),
        patients_on_both_sides=_both_sides(results),
        results=[result.hash for result in results],
    )


def estimate_of(results: Sequence[FoldResult], protocol: str, value: Callable[[Metrics], float]) -> CardEstimate:
    """A metric of the test sides, see `over_seeds`."""
    return over_seeds(results, [value(result.protocols[protocol].test) for result in results])


def over_seeds(results: Sequence[FoldResult], values: Sequence[float]) -> CardEstimate:
    """Of a value each: mean over the folds of each seed, then mean and deviation over seeds."""
    by_seed: dict[int, list[float]] = {}
    for result, value in zip(results, values, strict=True):
        by_seed.setdefault(result.key.seed, []).append(value)
    return CardEstimate.of([float(np.mean(of_seed)) for of_seed in by_seed.values()])


def score_interval(results: Sequence[FoldResult], said: Sequence[Predictions], metric: Metric) -> dict[str, float]:
    """`low` and `high` of the 95 % interval by bootstrap over patients; empty where it is not defined.

    Patients are drawn within each fold, and the mean over seeds and folds is computed again, as on the leaderboard.

    Args:
        results: fold runs.
        said: the predictions of each.
        metric: what the interval is of.
    """
    by_fold: dict[int, list[bootstrap.PatientHits]] = {}
    for result, one in zip(results, said, strict=True):
        predicted, classes = one.logits.argmax(axis=1), one.logits.shape[1]
        hits = bootstrap.patient_hits(predicted, one.labels, one.patients, metric, classes)
        by_fold.setdefault(result.key.fold, []).append(hits)
    try:
        folds = [bootstrap.over_seeds(by_fold[fold]) for fold in sorted(by_fold)]
    except ValueError:  # the seeds of a fold were not tested on the same cycles
        return {}
    found = bootstrap.interval(bootstrap.bootstrap([folds])[0])
    return {"low": found[0], "high": found[1]} if found else {}


def _devices(results: Sequence[FoldResult], said: Sequence[Predictions], metric: Metric) -> list[DeviceRow]:
    """Every device's cycles over all folds, one number a seed, then the mean over seeds."""
    of_seed: dict[int, list[Predictions]] = {}
    for result, one in zip(results, said, strict=True):
        of_seed.setdefault(result.key.seed, []).append(one)
    numbers: dict[str, list[dict[str, float]]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for folds in of_seed.values():
        devices, logits, labels, patients = (
            np.concatenate([getattr(fold, name) for fold in folds])
            for name in ("devices", "logits", "labels", "patients")
        )
        for device, metrics in evaluate_by(devices, logits, labels).items():
            numbers.setdefault(device, []).append(metrics.summary(metric))
            counts[device] = metrics.n, len(set(patients[devices == device].tolist()))
    return [
        DeviceRow(
            device=device,
            cycles=counts[device][0],
            patients=counts[device][1],
            **{name: float(np.mean([one[name] for one in seeds])) for name in seeds[0]},
        )
        for device, seeds in sorted(numbers.items())
    ]


def _read(results: Sequence[FoldResult], protocol: str, store: ResultStore) -> list[Predictions]:
    """The test side of each fold run."""
    return [predictions_of(store, result.hash, protocol) for result in results]


def _both_sides(results: Sequence[FoldResult]) -> list[str]:
    return sorted({patient for result in results for patient in result.data.patients_on_both_sides})


def _pretrained(config: ExperimentConfig) -> Pretrained | None:
    if (pretrained := config.model.pretrained) is None:
        return None
    known = published(pretrained.file)
    licence = known.licence if known else None
    return Pretrained(file=pretrained.file, sha256=pretrained.sha256, licence=licence or "unknown")
