"""Whether a registered version still is what its card says: its weights run again, against the stored predictions."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.settings import Settings
from orchestrator.registry.card.build_card import over_seeds
from orchestrator.registry.card.card import ModelCard
from orchestrator.registry.policy import Verification
from workers.evaluation import evaluate
from workers.predictions import Predictions, predictions_of
from workers.results import FoldResult, ResultStore

TOLERANCE = 0.01  # points between a stored number and that of the stored predictions


def verify(card: ModelCard, weights: bytes, results: ResultStore, settings: Settings) -> Verification:
    """Check the card's number against the stored predictions, and these against what the weights say now.

    The search's fold runs that the card names are checked against their predictions too.

    Nothing is trained or stored. Where Ray runs, the weights run in a task of it, on a GPU if the cluster has one.

    Args:
        card: of the version.
        weights: the registered `model.safetensors`.
        results: holds the card's fold runs.
        settings: where the feature store and the node's cache are.
    """
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        return Verification(problem="the weights are not those that were registered: their SHA-256 differs")
    try:
        found = {name: results.get(name) for name in card.results}
        if gone := [name[:12] for name, result in found.items() if result is None]:
            return Verification(problem=f"fold runs are gone from the result store: {', '.join(gone)}")
        runs = [result for result in found.values() if result is not None]
        stored = {run.hash: predictions_of(results, run.hash, card.protocol) for run in runs}
        score = over_seeds(runs, [_value(stored[run.hash], card.metric) for run in runs]).mean
        if not abs(score - card.score.mean) <= TOLERANCE:  # so that NaN differs, too
            given = f"the stored predictions give a {card.metric_label} of {score:.2f}"
            return Verification(problem=f"{given}, not the card's {card.score.mean:.2f}")
        if problem := _search_problem(card, results):
            return Verification(problem=problem)
        (chosen,) = (run for run in runs if run.hash == card.weights_result)
        return _compare(_run_again(chosen, weights, settings), stored[chosen.hash], card.metric)
    except UserError as error:
        return Verification(problem=f"cannot be run again: {error}")


def _value(said: Predictions, metric: Metric) -> float:
    return evaluate(said.logits, said.labels).value(metric)


def _search_problem(card: ModelCard, results: ResultStore) -> str | None:
    """In what the search's fold runs differ from their predictions or from the card; those that are gone are not asked.

    No board shows them, and the search's interval decides who becomes champion.
    """
    search, label = card.search, card.metric_label
    if search is None or search.score is None:
        return None
    runs = [run for name in search.results if (run := results.get(name)) is not None]
    values = [_value(predictions_of(results, run.hash, search.protocol), card.metric) for run in runs]
    for run, value in zip(runs, values, strict=True):
        stored = run.protocols[search.protocol].test.value(card.metric)
        if not abs(value - stored) <= TOLERANCE:  # so that NaN differs, too
            of = f"result {run.hash[:12]} of its search"
            return f"the stored {label} {stored:.2f} of {of} is {value:.2f} by its predictions"
    if len(runs) < len(search.results):
        return None
    score = over_seeds(runs, values).mean
    if not abs(score - search.score.mean) <= TOLERANCE:  # so that NaN differs, too
        return f"its search's predictions give a {label} of {score:.2f}, not the card's {search.score.mean:.2f}"
    return None


def _compare(again: tuple[list[str], np.ndarray], stored: Predictions, metric: Metric) -> Verification:
    cycle_ids, logits = again
    position = {cycle_id: row for row, cycle_id in enumerate(stored.cycle_ids)}
    if set(cycle_ids) != set(position):
        return Verification(problem="the feature store's test side is not the one that was tested")
    order = [position[cycle_id] for cycle_id in cycle_ids]
    return Verification(
        metric=metric,
        agreement=float((logits.argmax(axis=1) == stored.logits[order].argmax(axis=1)).mean()),
        score=evaluate(logits, stored.labels[order]).value(metric),
        stored_score=_value(stored, metric),
        cycles=len(cycle_ids),
    )


def _run_again(result: FoldResult, weights: bytes, settings: Settings) -> tuple[list[str], np.ndarray]:
    """Cycle ids and logits ``[cycles, classes]`` of the test side of a fold run.

    Raises:
        UserError: the feature store lacks what it needs, or the weights do not fit.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return _logits(result, weights, settings.store, str(settings.cache))
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))
    free: Any = PlacementGroupSchedulingStrategy(placement_group=None)  # type: ignore[arg-type]
    task = ray.remote(_logits).options(num_cpus=1, num_gpus=gpus, scheduling_strategy=free)
    return ray.get(task.remote(result, ray.put(weights), settings.store, str(settings.cache)))


def _logits(result: FoldResult, weights: bytes, store: str, cache: str) -> tuple[list[str], np.ndarray]:
    from feature_store.store import FeatureStore
    from workers.fold import pick_device
    from workers.rescoring import rescore_result

    said = rescore_result(result, weights, FeatureStore.open(store), Path(cache), pick_device("auto"))
    return said.cycle_ids.tolist(), said.logits
