"""A model card from fold runs: numbers, interval and devices from their predictions, the rest from their records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.leaderboard import statistics
from orchestrator.leaderboard.labels import describe_model
from orchestrator.leaderboard.runs import split_folds
from orchestrator.model_card import DeviceRow, Estimate, ModelCard, Pretrained, SearchPart
from orchestrator.model_package import dependencies
from workers.config import ExperimentConfig
from workers.evaluation import Metrics, Score, evaluate
from workers.results import WEIGHTS, FoldResult, ResultStore

if TYPE_CHECKING:
    import pyarrow as pa

LICENCES = (  # of files of pretrained weights, by the names under which their authors publish them
    (r"mn\d+_as", "MIT (EfficientAT)"),
    (r"audioset_.*\.pth|SSAST", "BSD-3-Clause (AST, SSAST)"),
    (r"Cnn(6|10|14)", "CC-BY-4.0 (PANNs)"),
    (r"dinov2|deit", "Apache-2.0 (DINOv2, DeiT)"),
)


def best_seed(config: ExperimentConfig, results: Sequence[FoldResult]) -> FoldResult:
    """The run with the best Score on its held-out patients, under the config's protocol; of equal ones the first."""
    protocol = config.training.protocol

    def held_out(result: FoldResult) -> float:
        validation = result.protocols[protocol].validation
        return validation.icbhi4.score if validation else 0.0

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
    described = describe_model(first.config, int(first.model["parameters"]))
    interval = score_interval(results, protocol, store)
    on_gpu = [result for result in results if result.provenance.device != "cpu"]
    energy = [result.timing["energy_kwh"] for result in results if "energy_kwh" in result.timing]

    def estimate(value: Callable[[Metrics], float]) -> Estimate:
        return estimate_of(results, protocol, value)

    return ModelCard(
        name=name,
        family=described.family,
        model=described.label,
        parameters=described.parameters,
        objective=config.objective.name,
        pretrained=_pretrained(config),
        score=estimate(lambda metrics: metrics.icbhi4.score).model_copy(update=interval),
        specificity=estimate(lambda metrics: metrics.icbhi4.specificity),
        sensitivity=estimate(lambda metrics: metrics.icbhi4.sensitivity),
        score_icbhi2=estimate(lambda metrics: metrics.icbhi2.score),
        devices=_devices(results, protocol, store),
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
        dependencies=dependencies(),
        trained_on=sorted({result.provenance.device for result in results}),
        finished=max(result.provenance.finished for result in results),
        train_seconds=sum(result.timing["train_seconds"] for result in results),
        gpu_hours=sum(result.timing["train_seconds"] for result in on_gpu) / 3600 if on_gpu else None,
        energy_kwh=sum(energy) if len(energy) == len(results) else None,
        feature_seconds=config.feature.seconds,
        sample_rate=config.feature.sample_rate,
    )


def search_part(study: str, objective: float, hashes: Sequence[str], protocol: str, store: ResultStore) -> SearchPart:
    """How the search saw a config, with the interval of its Score over the search's folds.

    Args:
        study: name of the study.
        objective: the mean that it maximised.
        hashes: the trial's fold runs; without them, or where one is gone, there is no interval.
        protocol: whose epoch the search scored.
        store: holds their predictions.
    """
    found = [store.get(name) for name in hashes]
    results = [result for result in found if result is not None]
    if not results or len(results) < len(found):
        return SearchPart(study=study, objective=objective)
    score = estimate_of(results, protocol, lambda metrics: metrics.icbhi4.score)
    return SearchPart(
        study=study,
        objective=objective,
        split=results[0].key.split,
        split_hash=results[0].key.split_hash,
        folds=sorted({result.key.fold for result in results}),
        seeds=sorted({result.key.seed for result in results}),
        protocol=protocol,
        score=score.model_copy(update=score_interval(results, protocol, store)),
        patients_on_both_sides=_both_sides(results),
        results=[result.hash for result in results],
    )


def estimate_of(results: Sequence[FoldResult], protocol: str, value: Callable[[Metrics], float]) -> Estimate:
    """A metric of the test sides: mean over the folds of each seed, then mean and deviation over seeds."""
    by_seed: dict[int, list[float]] = {}
    for result in results:
        by_seed.setdefault(result.key.seed, []).append(value(result.protocols[protocol].test))
    mean, sd = statistics.mean_and_sd([float(np.mean(values)) for values in by_seed.values()])
    return Estimate(mean=mean, sd=sd)


def score_interval(results: Sequence[FoldResult], protocol: str, store: ResultStore) -> dict[str, float]:
    """`low` and `high` of the Score's 95 % interval by bootstrap over patients; empty where it is not defined.

    Patients are drawn within each fold, and the mean over seeds and folds is computed again, as on the leaderboard.
    """
    by_fold: dict[int, list[statistics.PatientHits]] = {}
    for result in results:
        _, labels, logits, patients, _ = _predictions(store.predictions(result.hash), protocol)
        by_fold.setdefault(result.key.fold, []).append(
            statistics.patient_hits(logits.argmax(axis=1), labels, patients.tolist())
        )
    try:
        folds = [statistics.over_seeds(by_fold[fold]) for fold in sorted(by_fold)]
    except ValueError:  # the seeds of a fold were not tested on the same cycles
        return {}
    found = statistics.interval(statistics.bootstrap([folds])[0])
    return {"low": found[0], "high": found[1]} if found else {}


def _devices(results: Sequence[FoldResult], protocol: str, store: ResultStore) -> list[DeviceRow]:
    """Every device's cycles over all folds, one Score a seed, then the mean over seeds."""
    of_seed: dict[int, list[tuple[np.ndarray, ...]]] = {}
    for result in results:
        of_seed.setdefault(result.key.seed, []).append(_predictions(store.predictions(result.hash), protocol)[1:])
    said: dict[str, list[Score]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for parts in of_seed.values():
        labels, logits, patients, devices = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        for device in np.unique(devices):
            own = devices == device
            said.setdefault(str(device), []).append(evaluate(logits[own], labels[own]).icbhi4)
            counts[str(device)] = int(own.sum()), len(np.unique(patients[own]))
    return [
        DeviceRow(
            device=device,
            cycles=counts[device][0],
            patients=counts[device][1],
            score=float(np.mean([one.score for one in scores])),
            specificity=float(np.mean([one.specificity for one in scores])),
            sensitivity=float(np.mean([one.sensitivity for one in scores])),
        )
        for device, scores in sorted(said.items())
    ]


def _predictions(table: pa.Table, protocol: str) -> tuple[np.ndarray, ...]:
    """Cycle ids, labels, logits, patients and devices of one protocol's rows."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["protocol"], protocol))
    logits = np.array(rows["logits"].to_pylist(), dtype=np.float32)
    ids, patients, devices = (np.array(rows[name].to_pylist(), dtype=str) for name in ("cycle_id", "patient", "device"))
    return ids, rows["label"].to_numpy().astype(np.int64), logits, patients, devices


def _both_sides(results: Sequence[FoldResult]) -> list[str]:
    return sorted({patient for result in results for patient in result.data.patients_on_both_sides})


def _pretrained(config: ExperimentConfig) -> Pretrained | None:
    if (pretrained := config.model.pretrained) is None:
        return None
    licences = (licence for pattern, licence in LICENCES if re.search(pattern, pretrained.file, re.IGNORECASE))
    return Pretrained(file=pretrained.file, sha256=pretrained.sha256, licence=next(licences, "unknown"))
