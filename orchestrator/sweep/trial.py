"""What a Tune trial does: its fold runs in a fixed order, each asked of the result store first.

Runs in a process of its own that imports no torch: the training happens in Ray tasks with warm workers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ray import tune

from feature_store.store import FeatureStore
from orchestrator.execution.backends import Backend, RayBackend
from orchestrator.execution.gpu_sharing import Packing
from search_spaces.schema import Evaluation, Resources
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, fold_keys
from workers.results import FoldResult, ResultStore

VALUE = "value"  # the metric of a report that Tune compares


@dataclass(frozen=True)
class FoldReport:
    """What a trial reports after a fold run.

    Attributes:
        value: the running mean over its fold runs so far, percent.
        fold_runs: how many, of `fold_runs_in_all`.
        fold, seed, fold_value: of this one.
        cost: mean over the fold runs so far of what the search keeps small.
        cached: found in the result store, not trained.
        seconds: that its training took.
        gpus: share of a GPU that it was given.
        peak_bytes, device_bytes: memory that it took on its device, and that the device has.
        results: hashes of the fold runs so far.
    """

    value: float
    fold_runs: int
    fold_runs_in_all: int
    fold: int
    seed: int
    fold_value: float
    cost: float
    cached: bool
    seconds: float
    gpus: float
    peak_bytes: int
    device_bytes: int
    results: list[str]


@dataclass(frozen=True)
class FailureReport:
    """What a trial reports last when a fold run failed.

    Attributes:
        error, detail, fault: of `orchestrator.execution.backends.Ended`.
        results: hashes of the fold runs before it.
    """

    error: str
    detail: str
    fault: str
    results: list[str]


def to_tune(report: FoldReport | FailureReport) -> dict[str, Any]:
    """A report as the dictionary that Tune passes between processes. Tune wants the metric in each."""
    return {VALUE: math.nan, **asdict(report)}


def of_tune(result: dict[str, Any]) -> FoldReport | FailureReport:
    """The report in a dictionary of Tune's, which adds keys of its own."""
    kind = FailureReport if result.get("error") else FoldReport
    return kind(**{field.name: result[field.name] for field in fields(kind)})


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
                tune.report(to_tune(FailureReport(ended.error or "no result", ended.detail, ended.fault, hashes)))
                return
        result = results.get(result_hash)
        assert result is not None
        values.append(value_of(result, work.evaluation))
        costs.append(cost_of(result, work.cost))
        hashes.append(result_hash)
        memory = [result.memory.get(name, 0) for name in ("peak_bytes", "device_bytes")]
        packing.note(parsed, *memory)
        report = FoldReport(
            value=sum(values) / len(values),
            fold_runs=len(values),
            fold_runs_in_all=len(runs),
            fold=run.fold,
            seed=run.seed,
            fold_value=values[-1],
            cost=sum(costs) / len(costs),
            cached=cached,
            seconds=result.timing["total_seconds"],
            gpus=slot.gpus,
            peak_bytes=memory[0],
            device_bytes=memory[1],
            results=list(hashes),
        )
        tune.report(to_tune(report))


def cost_of(result: FoldResult, name: str | None) -> float:
    """What the search keeps small beside the Score; 0 where it keeps nothing small."""
    known = {**result.timing, **result.memory, "parameters": result.model["parameters"]}
    return float(known[name]) if name is not None else 0.0


def value_of(result: FoldResult, evaluation: Evaluation) -> float:
    """What the search maximises."""
    return result.protocols[evaluation.protocol].test.value(evaluation.metric or result.data.metric)
