"""A sweep: trials by Ray Tune and Optuna over the result store, then promotion of the best.

Every step asks what is there already, so the same command again goes on where the last one ended, however it ended.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from feature_store.metrics import Metric
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.events import (
    BudgetReached,
    DriverWaited,
    FoldDone,
    SearchStarted,
    TrialEnded,
    TrialFailed,
    Watch,
)
from orchestrator.execution.backends import Backend, RayBackend
from orchestrator.execution.cluster import Cluster, connect, stoppable
from orchestrator.execution.fold_tasks import RETRIES
from orchestrator.studies.budget import Ledger
from orchestrator.studies.study import Study, TrialSummary
from orchestrator.sweep.finalists import Finalist, broken, choose_finalists, register_finalists, train_finalist
from orchestrator.sweep.plan import check_space
from orchestrator.sweep.trial import FailureReport, TrialWork, of_tune, run_trial
from orchestrator.sweep.tune_adapter import FoldScheduler, StudySearcher
from orchestrator.tracking.client import check_tracking
from orchestrator.tracking.tracker import Tracker, experiment_name
from search_spaces.schema import SearchSpace
from workers.fold import Site
from workers.lease import PATIENCE, Holder

# A trial only waits for its fold runs. A bundle may not be empty, and any share of a CPU would keep the last fold run
# of a full node from starting: so one byte of memory.
TRIAL_RESOURCES = tune.PlacementGroupFactory([{"memory": 1}])

# Tune's own logs (CSV, JSON, TensorBoard) and snapshots repeat what MLflow, the study and the result store hold.
TUNE_SETTINGS = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600"}


@dataclass
class SweepOutcome:
    """What a sweep came to; the trials' values are by `metric`, `pareto` has the numbers of the Pareto set."""

    study: str
    metric: Metric
    trials: list[TrialSummary]
    pareto: frozenset[int]
    finalists: list[Finalist]
    fold_runs_trained: int
    fold_runs_cached: int
    seconds: float


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
    site = replace(Site.of(settings), keep_weights=False)
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
        chosen = choose_finalists(space, study) if isinstance(work.backend, RayBackend) else []
        finalists = [train_finalist(finalist, space, settings, store, watch) for finalist in chosen]
        register_finalists(finalists, space, settings, study, tracker, watch)
        pareto = frozenset(trial.number for trial in study.pareto())
        trials = [TrialSummary.of(trial) for trial in study.trials()]
        tracker.finish_sweep(trials, pareto)
    return SweepOutcome(
        study=study.name,
        metric=metric,
        trials=trials,
        pareto=pareto,
        finalists=finalists,
        fold_runs_trained=counted["trained"],
        fold_runs_cached=counted["cached"],
        seconds=time.monotonic() - started,
    )


def _waiting(watch: Watch) -> Callable[[Holder], None]:
    return lambda holder: watch(DriverWaited(str(holder), PATIENCE))


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
    watch(SearchStarted(study.name, metric, max(0, missing), taken_up, slots))
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
            watch(BudgetReached(searcher.limit))
        if searcher.broken:
            raise broken(searcher.broken, study.name)
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
        number, family, config = (trial.config[key] for key in ("number", "family", "config"))
        report = of_tune(result)
        if isinstance(report, FailureReport):
            self.watch(TrialFailed(self.study.name, number, family, report.error, config))
            return
        self.trained, self.cached = self.trained + (not report.cached), self.cached + report.cached
        self.watch(
            FoldDone(
                trial=number,
                family=family,
                metric=self.metric,
                fold=report.fold,
                fold_value=report.fold_value,
                value=report.value,
                fold_runs=report.fold_runs,
                fold_runs_in_all=report.fold_runs_in_all,
                cached=report.cached,
                seconds=report.seconds,
                gpus=report.gpus,
            )
        )
        self.tracker.fold_done(number, config, report.results)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ended = self.study.trial(trial.config["number"])
        if not ended.state.is_finished():
            return  # a machine's fault: it goes on at the next start
        self.tracker.trial_ended(ended)
        summary = TrialSummary.of(ended)
        self.watch(TrialEnded(summary.trial, summary.family, summary.state, summary.value, summary.params))
