"""What a Tune trial does: its fold runs in a fixed order, each asked of the result store first.

Runs in a process of its own that imports no torch: the training happens in Ray tasks with warm workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from feature_store.store import FeatureStore
from orchestrator.backends import Backend, RayBackend
from orchestrator.packing import Packing
from search_spaces.schema import Evaluation, Resources
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, fold_keys
from workers.results import FoldResult, ResultStore

VALUE, STEP, OF = "value", "fold_runs", "fold_runs_in_all"  # of a report: running mean, and over how many fold runs


@dataclass(frozen=True)
class TrialWork:
    """What all trials of a sweep share."""

    site: Site
    evaluation: Evaluation
    folds: tuple[int, ...]
    resources: Resources
    cost: str | None = None
    backend: Backend = field(default_factory=RayBackend)

    def runs(self, config: ExperimentConfig) -> list[FoldRun]:
        """A config's fold runs, in the order in which every trial runs them."""
        return [
            FoldRun(config, self.evaluation.split, fold, seed) for seed in self.evaluation.seeds for fold in self.folds
        ]


def run_trial(config: dict[str, Any], work: TrialWork) -> None:
    """Tune's trainable: report the running mean after each fold run, or the error that ends the trial."""
    parsed = ExperimentConfig.model_validate(config["config"])
    runs = work.runs(parsed)
    packing = Packing(work.resources, dict(config["shares"]))
    store, results = FeatureStore.open(work.site.store), ResultStore.open(work.site.results)
    values: list[float] = []
    costs: list[float] = []
    hashes: list[str] = []
    for run, key in zip(runs, fold_keys(runs, store), strict=True):
        result_hash = key.hash
        cached = result_hash in results
        slot = packing.slot(parsed)
        if not cached:
            ended = work.backend.run(run, key, work.site, slot)
            if ended.hash is None:
                failed: dict[str, Any] = {"error": ended.error, "detail": ended.detail, "fault": ended.fault}
                failed |= {STEP: len(values), OF: len(runs), "results": hashes}
                tune.report({VALUE: math.nan, **failed})  # Tune insists on the metric
                return
        result = results.get(result_hash)
        assert result is not None
        values.append(value_of(result, work.evaluation))
        costs.append(cost_of(result, work.cost))
        hashes.append(result_hash)
        memory = [result.memory.get(name, 0) for name in ("peak_bytes", "device_bytes")]
        packing.note(parsed, *memory)
        tune.report(
            {
                VALUE: sum(values) / len(values),
                STEP: len(values),
                OF: len(runs),
                "fold": run.fold,
                "seed": run.seed,
                "fold_value": values[-1],
                "cost": sum(costs) / len(costs),
                "cached": cached,
                "seconds": result.timing["total_seconds"],
                "gpus": slot.gpus,
                "peak_bytes": memory[0],
                "device_bytes": memory[1],
                "results": hashes,
            }
        )


def cost_of(result: FoldResult, name: str | None) -> float:
    """What the search keeps small beside the Score; 0 where it keeps nothing small."""
    known = {**result.timing, **result.memory, "parameters": result.model["parameters"]}
    return float(known[name]) if name is not None else 0.0


def value_of(result: FoldResult, evaluation: Evaluation) -> float:
    """What the search maximises."""
    return result.protocols[evaluation.protocol].test.value(evaluation.metric or result.data.metric)
