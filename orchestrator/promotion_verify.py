"""Whether a registered version still is what its card says: its weights run again, against the stored predictions."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.model_card import ModelCard
from orchestrator.policy import Verification
from workers.config import ExperimentConfig
from workers.evaluation import evaluate
from workers.results import WEIGHTS, FoldResult, ResultStore

TOLERANCE = 0.01  # points between the card's Score and that of the stored predictions


def verify(card: ModelCard, weights: bytes, results: ResultStore, settings: Settings) -> Verification:
    """Check the card's Score against the stored predictions, and these against what the weights say now.

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
        by_seed: dict[int, list[float]] = {}
        for result in found.values():
            assert result is not None
            by_seed.setdefault(result.key.seed, []).append(_stored(results, result, card.protocol)[1])
        score = float(np.mean([np.mean(scores) for scores in by_seed.values()]))
        if abs(score - card.score.mean) > TOLERANCE:
            told = f"the stored predictions give a Score of {score:.2f}, not the card's {card.score.mean:.2f}"
            return Verification(problem=told)
        chosen = found[card.weights_result]
        assert chosen is not None
        stored, stored_score = _stored(results, chosen, card.protocol)
        return _compare(_run_again(chosen, weights, settings), stored, stored_score)
    except UserError as error:
        return Verification(problem=f"cannot be run again: {error}")


def _stored(results: ResultStore, result: FoldResult, protocol: str) -> tuple[dict[str, tuple[int, Any]], float]:
    """Label and logits of each test cycle, and the Score that they give."""
    table = results.predictions(result.hash)
    rows = zip(*(table[name].to_pylist() for name in ("cycle_id", "label", "logits", "protocol")), strict=True)
    stored = {cycle_id: (label, logits) for cycle_id, label, logits, of in rows if of == protocol}
    logits = np.array([row[1] for row in stored.values()])
    return stored, evaluate(logits, np.array([row[0] for row in stored.values()])).icbhi4.score


def _compare(
    again: tuple[list[str], np.ndarray], stored: dict[str, tuple[int, Any]], stored_score: float
) -> Verification:
    cycle_ids, logits = again
    if set(cycle_ids) != set(stored):
        return Verification(problem="the feature store's test side is not the one that was tested")
    labels = np.array([stored[cycle_id][0] for cycle_id in cycle_ids])
    before = np.array([stored[cycle_id][1] for cycle_id in cycle_ids])
    return Verification(
        agreement=float((logits.argmax(axis=1) == before.argmax(axis=1)).mean()),
        score=evaluate(logits, labels).icbhi4.score,
        stored_score=stored_score,
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
    from workers.rescoring import rescore

    config = ExperimentConfig.parse(result.config, where=f"result {result.hash[:12]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(weights)
        said = rescore(
            config,
            path,
            FeatureStore.open(store),
            Path(cache),
            split=result.key.split,
            fold=result.key.fold,
            seed=result.key.seed,
            device=pick_device("auto"),
        )
    return said.cycle_ids.tolist(), said.logits
