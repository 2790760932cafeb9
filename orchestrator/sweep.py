"""A sweep: trials by Ray Tune and Optuna over the result store, then promotion of the best.

Every step asks what is there already, so the same command again goes on where the last one ended, however it ended.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ray import tune

from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.backends import Backend, RayBackend
from orchestrator.budget import Ledger
from orchestrator.cluster import Cluster, connect, stoppable
from orchestrator.events import Progress, Watch
from orchestrator.folds import RETRIES, submit
from orchestrator.packing import Slot
from orchestrator.plan import check_space
from orchestrator.registered import Registered
from orchestrator.registry import Registry
from orchestrator.search import FoldScheduler, StudySearcher
from orchestrator.study import Study, score_of
from orchestrator.tracking import Tracker, experiment_name
from orchestrator.tracking_client import LOST, check_tracking, is_lost, refusal
from orchestrator.trial import TrialWork, run_trial
from search_spaces.schema import SearchSpace
from workers import provenance
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, fold_keys
from workers.lease import PATIENCE, Holder
from workers.results import FoldResult, ResultStore

# A trial only waits for its fold runs. A bundle may not be empty, and any share of a CPU would keep the last fold run
# of a full node from starting: so one byte of memory.
TRIAL_RESOURCES = tune.PlacementGroupFactory([{"memory": 1}])

# Tune's own logs (CSV, JSON, TensorBoard) and snapshots repeat what MLflow, the study and the result store hold.
TUNE_SETTINGS = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600"}


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


@dataclass
class SweepOutcome:
    """What a sweep came to; the trials' values are by `metric`."""

    study: str
    metric: Metric
    trials: list[dict[str, Any]]
    finalists: list[Finalist]
    fold_runs_trained: int
    fold_runs_cached: int
    seconds: float


def site_of(settings: Settings) -> Site:
    """Where fold runs find their data, from this process' settings."""
    return Site(
        store=settings.store,
        results=settings.results,
        cache=str(settings.cache),
        weights=str(settings.weights),
        command=provenance.command_line(),
        git_commit=provenance.git_commit(),
    )


def run_sweep(
    space: SearchSpace,
    settings: Settings,
    watch: Watch = lambda progress: None,
    backend: Backend | None = None,
) -> SweepOutcome:
    """Search, promote, register.

    Args:
        space: the sweep.
        settings: where everything lies.
        watch: told of everything that happens.
        backend: runs the search's fold runs; Ray tasks if not given. With a simulated one nothing is promoted.

    Raises:
        UserError: something is wrong that would fail every trial; found before anything starts.
    """
    started = time.monotonic()
    store = FeatureStore.open(settings.store)
    cluster = connect()
    cluster.check(space.resources)
    folds = check_space(space, store, settings)
    check_tracking(settings, experiment_name(space))
    site = replace(site_of(settings), keep_weights=False)
    first = space.corners(space.family_names[0])[0]
    metric = space.evaluation.metric or store.metric(first.dataset, first.task)
    work = TrialWork(site, space.evaluation, tuple(folds), space.resources, space.search.cost, backend or RayBackend())
    fold_runs = len(folds) * len(space.evaluation.seeds)
    with (
        stoppable(),
        Study.lease(space, settings, fold_runs, _waiting(watch)) as study,
        Tracker.open(settings, space, study.name, watch) as tracker,
    ):
        counted = _search(space, settings, cluster, study, tracker, work, metric, watch)
        chosen = _finalists(space, study) if isinstance(work.backend, RayBackend) else []
        finalists = [_promote(finalist, space, settings, store, watch) for finalist in chosen]
        _register(finalists, space, settings, study, tracker, watch)
        front = {trial.number for trial in study.pareto()}
        trials = [{**study.describe(trial), "pareto": trial.number in front} for trial in study.trials()]
        tracker.finish_sweep(trials)
    return SweepOutcome(
        study=study.name,
        metric=metric,
        trials=trials,
        finalists=finalists,
        fold_runs_trained=counted["trained"],
        fold_runs_cached=counted["cached"],
        seconds=time.monotonic() - started,
    )


def _waiting(watch: Watch) -> Callable[[Holder], None]:
    return lambda holder: watch(Progress("lease", {"holder": str(holder), "seconds": PATIENCE}))


# --- search ---


def _search(
    space: SearchSpace,
    settings: Settings,
    cluster: Cluster,
    study: Study,
    tracker: Tracker,
    work: TrialWork,
    metric: Metric,
    watch: Watch,
) -> dict[str, int]:
    """Run the trials that are still missing."""
    taken_up = study.take_up()
    missing = space.search.trials - study.ended()
    slots = min(cluster.trials(space.resources), max(1, missing))
    facts = {"study": study.name, "metric": metric}
    watch(Progress("search", {**facts, "missing": max(0, missing), "taken_up": taken_up, "slots": slots}))
    counter = _Observer(study, metric, tracker, watch)
    if missing > 0:
        ledger = Ledger(space.budget, space.resources, study.spent())
        counter.searcher = searcher = StudySearcher(study, ledger)
        for name, value in TUNE_SETTINGS.items():
            os.environ.setdefault(name, value)
        folder = settings.cache / "tune" / f"{study.name}-{int(time.time())}"
        tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, work=work), TRIAL_RESOURCES),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=FoldScheduler(searcher),
                num_samples=missing,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                verbose=0,
                callbacks=[counter],
                failure_config=tune.FailureConfig(max_failures=RETRIES),  # a lost trial process: its folds are kept
            ),
        ).fit()
        shutil.rmtree(folder, ignore_errors=True)
        if searcher.limit:
            watch(Progress("budget", {"limit": searcher.limit}))
        if searcher.broken:
            raise _broken(searcher.broken, study.name)
    for trial in study.trials():  # what a killed driver told Optuna but not MLflow
        tracker.trial_ended(trial)
    return {"trained": counter.trained, "cached": counter.cached}


class _Observer(tune.Callback):
    """Passes Tune's events on to MLflow and to whoever watches."""

    def __init__(self, study: Study, metric: Metric, tracker: Tracker, watch: Watch) -> None:
        self.study, self.metric, self.tracker, self.watch = study, metric, tracker, watch
        self.searcher: StudySearcher | None = None
        self.trained = self.cached = 0

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks down for a resume of its own; ours is a new Tuner over the same study."""
        return {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        facts = {"trial": trial.config["number"], "family": trial.config["family"]}
        if result.get("error"):
            failed = {"study": self.study.name, "error": result["error"], "config": trial.config["config"]}
            self.watch(Progress("trial_failed", {**facts, **failed}))
            return
        self.trained, self.cached = self.trained + (not result["cached"]), self.cached + result["cached"]
        self.watch(Progress("fold", {**facts, "metric": self.metric, **result}))
        self.tracker.fold_done(trial.config["number"], trial.config["config"], result["results"])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ended = self.study.trial(trial.config["number"])
        if not ended.state.is_finished():
            return  # a machine's fault: it goes on at the next start
        self.tracker.trial_ended(ended)
        self.watch(Progress("trial", self.study.describe(ended)))


def _broken(fault: str, study: str) -> UserError:
    """What the reader is told when a machine's fault outlived its attempts."""
    return UserError(
        f"the sweep was stopped by a fault that is not a config's: {fault}",
        where=study,
        hint="mend it, then start the same command again: finished fold runs are kept",
    )


# --- promotion ---


def _finalists(space: SearchSpace, study: Study) -> list[Finalist]:
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


def _promote(finalist: Finalist, space: SearchSpace, settings: Settings, store: FeatureStore, watch: Watch) -> Finalist:
    """Train a finalist on the whole training side with every seed; the test side is read at the end of each."""
    config, promotion, slot = finalist.config, space.promotion, Slot.of(space.resources)
    split = store.split(config.dataset, promotion.split, task=config.task)
    site, results = site_of(settings), ResultStore.open(settings.results)
    runs = [FoldRun(config, promotion.split, fold, seed) for seed in promotion.seeds for fold in split.folds()]
    keys = [key.hash for key in fold_keys(runs, store)]
    watch(
        Progress("promote", {"family": finalist.family, "runs": len(runs), "cached": sum(k in results for k in keys)})
    )
    started = {key: submit(run, site, slot) for key, run in zip(keys, runs, strict=True) if key not in results}
    finalist.trained = len(started)
    for key, run in zip(keys, runs, strict=True):
        ended = RayBackend().finish(started[key], run, site, slot) if key in started else None
        if ended is not None and ended.hash is None and ended.fault == "machine":
            raise _broken(f"seed {run.seed}, fold {run.fold}: {ended.error}", space.study_name)
        if ended is not None and ended.error:
            finalist.errors.append(f"seed {run.seed}, fold {run.fold}: {ended.error}")
            continue
        result = results.get(key)
        assert result is not None
        finalist.results.append(result)
        said, metric = result.protocols[config.training.protocol].test, result.data.metric
        facts = {"family": finalist.family, "seed": run.seed, "fold": run.fold, "metric": metric}
        watch(Progress("promoted", {**facts, **said.summary(metric)}))
    return finalist


def _register(
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
            watch(Progress("not_promoted", {"family": finalist.family, "errors": finalist.errors}))
            continue
        run_id = tracker.promoted(
            finalist.family, finalist.trial, finalist.search_value, finalist.config, finalist.results
        )
        facts = {"family": finalist.family, "registers": rank == 0}
        if run_id is None:
            watch(Progress("not_registered", {**facts, "refused": tracker.refused}))
        elif rank == 0:
            try:
                finalist.registered = Registry.open(settings).register(
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
                watch(Progress("not_registered", {**facts, "refused": why}))
            else:
                watch(Progress("registered", vars(finalist.registered)))
