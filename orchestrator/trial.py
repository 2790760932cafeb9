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
    backend: Backend = field(default_factory=RayBackend)

    def runs(self, config: ExperimentConfig) -> list[FoldRun]:
        """A config's fold runs, in the order in which every trial runs them."""
        return [
            FoldRun(config, self.evaluation.split, fold, seed) for seed in self.evaluation.seeds for fold in self.folds
        ]


def run_trial(config: dict[str, Any], work: TrialWork) -> None:
    """Tune's trainable: report the running mean after each fold run, or the error that ends the trial."""
    runs = work.runs(ExperimentConfig.model_validate(config["config"]))
    store, results = FeatureStore.open(work.site.store), ResultStore.open(work.site.results)
    values: list[float] = []
    hashes: list[str] = []
    for run, key in zip(runs, fold_keys(runs, store), strict=True):
        result_hash = key.hash
        cached = result_hash in results
        if not cached:
            ended = work.backend.run(run, key, work.site, work.resources)
            if ended.hash is None:
                failed: dict[str, Any] = {"error": ended.error, "detail": ended.detail, "fault": ended.fault}
                failed |= {STEP: len(values), OF: len(runs), "results": hashes}
                tune.report({VALUE: math.nan, **failed})  # Tune insists on the metric
                return
        result = results.get(result_hash)
        assert result is not None
        values.append(value_of(result, work.evaluation))
        hashes.append(result_hash)
        tune.report(
            {
                VALUE: sum(values) / len(values),
                STEP: len(values),
                OF: len(runs),
                "fold": run.fold,
                "seed": run.seed,
                "fold_value": values[-1],
                "cached": cached,
                "seconds": result.timing["total_seconds"],
                "results": hashes,
            }
        )


def value_of(result: FoldResult, evaluation: Evaluation) -> float:
    """The Score that the search maximises."""
    return getattr(result.protocols[evaluation.protocol].test, evaluation.metric).score
