"""Finalists of a sweep: chosen by their trials' means, trained on the whole training side, recorded and registered."""

from __future__ import annotations

from dataclasses import dataclass, field

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.events import (
    FinalistFailed,
    FinalistNotRecorded,
    FinalistRunDone,
    FinalistStarted,
    ModelRegistered,
    Watch,
)
from orchestrator.execution.backends import RayBackend
from orchestrator.execution.fold_tasks import submit
from orchestrator.execution.gpu_sharing import Slot
from orchestrator.registry.registry import Registry
from orchestrator.registry.version import Registered
from orchestrator.studies.storage import score_of
from orchestrator.studies.study import Study
from orchestrator.tracking.client import LOST, is_lost, refusal
from orchestrator.tracking.tracker import Tracker, experiment_name
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, fold_keys
from workers.results import FoldResult, ResultStore


@dataclass
class Finalist:
    """A config trained on the whole training side, and what its test side said."""

    family: str
    trial: int
    search_value: float
    config: ExperimentConfig
    trained: int = 0
    results: list[FoldResult] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    registered: Registered | None = None


def choose_finalists(space: SearchSpace, study: Study) -> list[Finalist]:
    """The best config, and where asked for the best of each family and the Pareto set; the sweep's best first."""
    families = space.family_names if space.promotion.each_family else []
    chosen = [study.best(), *map(study.best, families), *(study.pareto() if space.promotion.pareto else [])]
    found: dict[str, Finalist] = {}
    for trial in chosen:
        if trial is None:
            continue
        config = ExperimentConfig.model_validate(trial.user_attrs["config"])
        finalist = Finalist(trial.user_attrs["family"], trial.number, score_of(trial), config)
        found.setdefault(config.config_hash, finalist)
    if not found:
        errors = [trial.user_attrs["error"] for trial in study.trials() if trial.user_attrs.get("error")]
        raise UserError(
            "no trial was finished",
            where=study.name,
            hint=f"first error: {errors[0]}" if errors else "raise search.trials",
        )
    return list(found.values())


def train_finalist(
    finalist: Finalist, space: SearchSpace, settings: Settings, store: FeatureStore, watch: Watch
) -> Finalist:
    """Train a finalist on the whole training side with every seed; the test side is read at the end of each."""
    config, promotion, slot = finalist.config, space.promotion, Slot.of(space.resources)
    split = store.split(config.dataset, promotion.split, task=config.task)
    site, results = Site.of(settings), ResultStore.open(settings.results)
    runs = [FoldRun(config, promotion.split, fold, seed) for seed in promotion.seeds for fold in split.folds()]
    keys = [key.hash for key in fold_keys(runs, store)]
    watch(FinalistStarted(finalist.family, len(runs), sum(key in results for key in keys)))
    started = {key: submit(run, site, slot) for key, run in zip(keys, runs, strict=True) if key not in results}
    finalist.trained = len(started)
    for key, run in zip(keys, runs, strict=True):
        ended = RayBackend().finish(started[key], run, site, slot) if key in started else None
        if ended is not None and ended.hash is None and ended.fault == "machine":
            raise broken(f"seed {run.seed}, fold {run.fold}: {ended.error}", space.study_name)
        if ended is not None and ended.error:
            finalist.errors.append(f"seed {run.seed}, fold {run.fold}: {ended.error}")
            continue
        result = results.get(key)
        assert result is not None
        finalist.results.append(result)
        metric = result.data.metric
        numbers = result.protocols[config.training.protocol].test.summary(metric)
        watch(FinalistRunDone(finalist.family, run.seed, run.fold, metric, **numbers))
    return finalist


def register_finalists(
    finalists: list[Finalist],
    space: SearchSpace,
    settings: Settings,
    study: Study,
    tracker: Tracker,
    watch: Watch,
) -> None:
    """Record every finalist in MLflow and register the sweep's best."""
    for rank, finalist in enumerate(finalists):
        if finalist.errors or not finalist.results:
            watch(FinalistFailed(finalist.family, tuple(finalist.errors)))
            continue
        run_id = tracker.promoted(
            finalist.family, finalist.trial, finalist.search_value, finalist.config, finalist.results
        )
        if run_id is None:
            watch(FinalistNotRecorded(finalist.family, rank == 0, tracker.refused))
        elif rank == 0:
            try:
                made = Registry.open(settings).register(
                    finalist.config,
                    finalist.results,
                    search_value=finalist.search_value,
                    study=study.name,
                    run_id=run_id,
                    search_results=study.trial(finalist.trial).user_attrs.get("results", ()),
                    search_protocol=space.evaluation.protocol,
                )
            except LOST as error:
                why = None if is_lost(error) else str(refusal(error, experiment_name(space)))
                watch(FinalistNotRecorded(finalist.family, True, why))
                continue
            finalist.registered = made
            watch(ModelRegistered(made.name, made.version, made.aliases, made.tags.get("not_promoted_because")))


def broken(fault: str, study: str) -> UserError:
    """The error of a sweep that a machine's fault stops after its last attempt."""
    return UserError(
        f"the sweep was stopped by a fault that is not a config's: {fault}",
        where=study,
        hint="fix it, then start the same command again: finished fold runs are kept",
    )
