"""Whole sweeps on a real Ray, Optuna and MLflow: what runs, what resumes, what is registered, what a failure does."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from ray import tune

import orchestrator.tracking.tracker as tracking
from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.events import Event, FoldDone, MlflowLost, TrialFailed
from orchestrator.studies.study import Study
from orchestrator.sweep.plan import make_plan
from orchestrator.sweep.run import TRIAL_RESOURCES, SweepOutcome, run_sweep
from search_spaces.overrides import merge
from search_spaces.schema import SearchSpace
from tests.conftest import TINY_FEATURE
from workers.results import ResultStore

pytestmark = pytest.mark.slow

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "base": {
        "feature": TINY_FEATURE,
        "augment": {"policy": "none"},
        "training": {"epochs": 1, "batch_size": 32},
    },
    "families": {
        "crnn": {
            "base": {"model": {"name": "crnn", "hidden": 4, "layers": 1}, "objective": {"name": "ce"}},
            "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
        },
        "ast": {
            "base": {
                "model": {"name": "ast", "size": "tiny", "depth": 1, "stride": 16},
                "objective": {"name": "patchmix_cl"},
            },
            "space": {"objective.tau": {"log_float": [0.05, 0.5]}},
        },
    },
    "evaluation": {"split": "official-inner2"},
    "promotion": {"seeds": [0, 1], "each_family": True},
    "search": {"trials": 4, "sampler": "random", "pruner": {"name": "none"}},
}
STRICT = {"name": "percentile", "percentile": 10, "startup_trials": 1, "after_folds": 1}


def space(**changes: Any) -> SearchSpace:
    return SearchSpace.parse(merge(CONTENT, changes))


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return replace(Settings.load(tmp_path_factory.mktemp("sweep")), store=Settings.load(small_home).store)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def outcome(home: Settings, events: list[Event]) -> SweepOutcome:
    return run_sweep(space(), home, events.append)


def _runs(home: Settings) -> list[Any]:
    client = MlflowClient(home.mlflow)
    return client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)


def test_every_trial_is_scored_over_its_folds_in_order(outcome: SweepOutcome, events: list[Event]) -> None:
    assert len(outcome.trials) == 4 and {trial.state for trial in outcome.trials} == {"COMPLETE"}
    for number in range(4):
        folds = [event for event in events if isinstance(event, FoldDone) and event.trial == number]
        assert [fold.fold for fold in folds] == [0, 1]
        means = [sum(f.fold_value for f in folds[: k + 1]) / (k + 1) for k in range(len(folds))]
        assert [fold.value for fold in folds] == pytest.approx(means)
        assert outcome.trials[number].value == pytest.approx(means[-1])


def test_the_results_are_those_of_the_trials_and_finalists(outcome: SweepOutcome, home: Settings) -> None:
    results = list(ResultStore.open(home.results).iterate())
    by_split = Counter(result.key.split for result in results)
    assert by_split == {"official-inner2": 8, "official": 2 * len(outcome.finalists)}
    assert all(result.test_reads == 1 for result in results)
    assert {result.key.config_hash for result in results} == {trial.config_hash for trial in outcome.trials}


def test_the_search_never_sees_the_test_side(outcome: SweepOutcome, home: Settings) -> None:
    from feature_store.store import FeatureStore

    store = FeatureStore.open(home.store)
    test_side = set(store.split("icbhi", "official", task="lungsound4").side(0, "test"))
    results = ResultStore.open(home.results)
    for result in results.iterate():
        if result.key.split == "official-inner2":
            for side in ("test", "validation"):
                assert not test_side & set(results.predictions(result.hash, side)["cycle_id"].to_pylist())


def test_the_best_of_each_family_is_promoted_and_the_best_of_all_registered(outcome: SweepOutcome) -> None:
    families = {trial.family for trial in outcome.trials}
    assert {finalist.family for finalist in outcome.finalists} == families
    for finalist in outcome.finalists:
        own = [trial.value for trial in outcome.trials if trial.family == finalist.family]
        assert finalist.search_value == pytest.approx(max(own))
        assert [result.key.seed for result in finalist.results] == [0, 1]
    registered = [finalist for finalist in outcome.finalists if finalist.registered]
    assert [f.search_value for f in registered] == [max(trial.value for trial in outcome.trials)]
    model = registered[0].registered
    assert model is not None and model.aliases == ("champion",)
    scores = [result.protocols["last"].test.icbhi4.score for result in registered[0].results]
    assert float(model.tags["score"]) == pytest.approx(sum(scores) / 2, abs=0.006)
    assert model.tags["config_hash"] == registered[0].config.config_hash


def test_mlflow_tells_the_same_story(outcome: SweepOutcome, home: Settings) -> None:
    runs = _runs(home)
    kinds = Counter(run.data.tags["lungtune.kind"] for run in runs)
    assert kinds == {"sweep": 1, "trial": 4, "finalist": len(outcome.finalists)}
    assert not [run for run in runs if run.info.status == "RUNNING"]
    client = MlflowClient(home.mlflow)
    for run in runs:
        if run.data.tags["lungtune.kind"] == "sweep":
            continue
        assert run.data.params["model.name"] in {"crnn", "ast"}
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert "confusion_matrix.png" in artifacts
        assert ("config.json" in artifacts) is (run.data.tags["lungtune.kind"] == "finalist")
    trial = next(run for run in runs if run.data.tags.get("lungtune.trial") == "0" and "objective" in run.data.metrics)
    assert trial.data.metrics["objective"] == pytest.approx(outcome.trials[0].value)
    assert {"fold0/train_loss", "fold1/validation_score", "fold0/last_score"} <= set(trial.data.metrics)


def test_the_same_command_again_trains_nothing_and_says_the_same(outcome: SweepOutcome, home: Settings) -> None:
    before = {run.info.run_id for run in _runs(home)}
    again = run_sweep(space(), home)
    assert (again.fold_runs_trained, again.fold_runs_cached) == (0, 0)
    assert again.trials == outcome.trials
    assert [f.registered for f in again.finalists] == [f.registered for f in outcome.finalists]
    assert {run.info.run_id for run in _runs(home)} == before


def test_more_trials_go_on_from_there(outcome: SweepOutcome, home: Settings) -> None:
    more = run_sweep(space(search={"trials": 5}), home)
    assert more.trials[:4] == outcome.trials and len(more.trials) == 5
    assert more.fold_runs_trained == 2


def test_another_study_of_the_same_configs_is_served_from_the_result_store(
    outcome: SweepOutcome, home: Settings, tmp_path: Path
) -> None:
    elsewhere = replace(home, optuna=str(tmp_path / "journal"), mlflow=f"sqlite:///{tmp_path}/mlflow.db")
    again = run_sweep(space(), elsewhere)
    assert (again.fold_runs_trained, again.fold_runs_cached) == (0, 8)
    assert [trial.value for trial in again.trials] == [trial.value for trial in outcome.trials]


def test_the_plan_counts_what_would_run(outcome: SweepOutcome, home: Settings) -> None:
    planned = make_plan(space(), home)
    assert (planned.trials, planned.folds, planned.search_runs, planned.promotion_runs) == (4, [0, 1], 8, 4)
    assert planned.results_recorded == len(ResultStore.open(home.results).hashes())
    assert {family.name: family.parameters for family in planned.families} == {
        "crnn": ["optim.lr"],
        "ast": ["objective.tau"],
    }
    recorded = [r.timing["total_seconds"] for r in ResultStore.open(home.results).iterate()]
    assert planned.seconds is not None and min(recorded) * 12 <= planned.seconds <= max(recorded) * 12


def test_a_waiting_trial_takes_no_cpu_from_its_fold_runs(tmp_path: Path) -> None:
    def waiting(config: dict[str, Any]) -> None:
        tune.report({"cpus": ray.available_resources().get("CPU", 0.0)})

    trials = tune.Tuner(
        tune.with_resources(waiting, TRIAL_RESOURCES),
        param_space={"n": tune.grid_search([0, 1])},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert [trial.metrics["cpus"] for trial in trials] == [2.0, 2.0]


def test_a_pruned_trial_trains_no_further_fold(settings: Settings) -> None:
    pruned = run_sweep(
        space(
            evaluation={"split": "official-inner3"},
            promotion={"each_family": False, "seeds": [0]},
            search={"trials": 5, "pruner": STRICT},
            resources={"concurrent_trials": 1},
        ),
        settings,
    )  # fmt: skip
    stopped = [trial for trial in pruned.trials if trial.state == "PRUNED"]
    assert stopped, "of five trials under a rule that lets one in ten go on"
    assert all(trial.fold_runs < 3 for trial in stopped)
    assert pruned.fold_runs_trained == sum(trial.fold_runs for trial in pruned.trials)
    trials = [run.data.tags for run in _runs(settings) if run.data.tags["lungtune.kind"] == "trial"]
    assert {tags["lungtune.state"] for tags in trials} == {"COMPLETE", "PRUNED"}


def test_a_sweep_with_a_cost_promotes_its_pareto_set(settings: Settings) -> None:
    """A larger model with a better Score stays beside a smaller one; what is worse and larger does not."""
    sizes = {
        "base": {"model": {"name": "crnn"}, "objective": {"name": "ce"}},
        "space": {"model.hidden": {"choice": [4, 8]}},
    }
    content = {
        **CONTENT,
        "families": {"crnn": sizes},
        "promotion": {"seeds": [0], "pareto": True},
        "search": {"trials": 4, "sampler": "random", "cost": "parameters", "pruner": {"name": "none"}},
    }
    outcome = run_sweep(SearchSpace.parse(content), settings)
    front = [trial for trial in outcome.trials if trial.trial in outcome.pareto]
    assert {trial.params["crnn:model.hidden"] for trial in outcome.trials} == {4, 8}
    for trial in outcome.trials:
        beaten = any(
            (f.value >= trial.value and f.cost < trial.cost) or (f.value > trial.value and f.cost <= trial.cost)
            for f in front
        )
        assert (trial.trial in outcome.pareto) is not beaten
    configs = {trial.config_hash for trial in front}
    assert {finalist.config.config_hash for finalist in outcome.finalists} == configs
    costs = {run.data.metrics["cost"] for run in _runs(settings) if run.data.tags["lungtune.kind"] == "trial"}
    assert costs == {trial.cost for trial in outcome.trials}


def test_a_config_that_fails_is_shown_and_the_sweep_goes_on(settings: Settings) -> None:
    """A learning rate out of all bounds makes the loss no number: that trial fails, the others do not."""
    events: list[Event] = []
    broken = {"crnn": {**CONTENT["families"]["crnn"], "space": {"optim.lr": {"choice": [1e-3, 1e15]}}}}
    content = SearchSpace.parse(
        {**CONTENT, "families": broken, "promotion": {"seeds": [0]}, "search": {"trials": 6, "sampler": "random"}}
    )
    outcome = run_sweep(content, settings, events.append)
    states = {trial.state for trial in outcome.trials}
    assert states == {"FAIL", "COMPLETE"}
    failed = [event for event in events if isinstance(event, TrialFailed)]
    assert failed and all("Diverged" in event.error and event.config["optim"]["lr"] == 1e15 for event in failed)
    assert {run.info.status for run in _runs(settings)} == {"FINISHED", "FAILED"}


def _drive(content: dict[str, Any], home: Settings) -> None:
    os.setsid()  # its Ray workers die with it
    run_sweep(SearchSpace.parse(content), home)


def test_a_killed_driver_is_taken_up_and_no_finished_fold_is_trained_again(settings: Settings, tmp_path: Path) -> None:
    content = merge(CONTENT, {"search": {"trials": 5}, "resources": {"concurrent_trials": 1}})
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(content, settings))
    driver.start()
    results = ResultStore.open(settings.results)
    deadline = time.monotonic() + 120
    while len(results.hashes()) < 3 and time.monotonic() < deadline and driver.is_alive():
        time.sleep(0.02)
    assert driver.pid is not None
    os.killpg(driver.pid, signal.SIGKILL)
    driver.join()
    finished = {r: (Path(settings.results) / r[:2] / r / "result.json").stat().st_mtime_ns for r in results.hashes()}
    assert 3 <= len(finished) < 10

    resumed = run_sweep(SearchSpace.parse(content), settings)
    assert [trial.state for trial in resumed.trials] == ["COMPLETE"] * 5
    for name, written in finished.items():
        assert (Path(settings.results) / name[:2] / name / "result.json").stat().st_mtime_ns == written
    inner = [result for result in results.iterate() if result.key.split == "official-inner2"]
    assert len(inner) == len({result.hash for result in inner}) == 10
    runs = _runs(settings)
    assert not [run for run in runs if run.info.status == "RUNNING"]
    fingerprints = Counter(run.data.tags["lungtune.fingerprint"] for run in runs)
    assert set(fingerprints.values()) == {1}
    states = Counter(trial.state for trial in Study(SearchSpace.parse(content), settings, 2).trials())
    assert states == {TrialState.COMPLETE: 5}


def test_a_lost_tracking_server_does_not_stop_a_sweep(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    content = space(search={"trials": 1}, promotion={"seeds": [0], "each_family": False})
    with monkeypatch.context() as impatient:
        impatient.setattr(tracking, "PATIENCE", 0.5)
        outcome = run_sweep(content, replace(settings, mlflow="http://127.0.0.1:9"), events.append)
    assert outcome.trials[0].state == "COMPLETE" and len(outcome.finalists[0].results) == 1
    assert any(isinstance(event, MlflowLost) for event in events)
    later = run_sweep(content, settings)
    assert later.fold_runs_trained == 0 and later.finalists[0].registered is not None
    assert Counter(run.data.tags["lungtune.kind"] for run in _runs(settings)) == {"sweep": 1, "trial": 1, "finalist": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": {"feature": "fbank"}}, "features build"),
        ({"evaluation": {"split": "oficial-inner2"}}, "did you mean 'official"),
        ({"evaluation": {"folds": [0, 9]}}, "no fold 9"),
        ({"promotion": {"split": "none"}}, "no split 'none'"),
        ({"resources": {"gpus": 1}}, "asks for 1 GPU, the cluster has 0"),
        ({"resources": {"cpus": 64}}, "asks for 64 CPUs, the cluster has 2"),
        ({"base": {"task": "lungsound3"}}, "no task 'lungsound3'"),
        ({"families": {"crnn": {"base": {"model": {"pretrained": "none.pt"}}}}}, "LUNGTUNE_WEIGHTS"),
    ],
)
def test_what_would_fail_every_trial_is_told_before_anything_starts(
    changes: dict[str, Any], said: str, settings: Settings
) -> None:
    with pytest.raises(UserError) as caught:
        run_sweep(space(**changes), settings)
    assert said in str(caught.value)
    assert not Path(settings.optuna).exists() and not Path(settings.results).exists()


def test_the_outcome_is_plain_data(outcome: SweepOutcome) -> None:
    from orchestrator.cli.progress import outcome_json

    content = json.loads(json.dumps(outcome_json(outcome)))
    assert content["trials"][0]["value"] == outcome.trials[0].value
    assert {"hash", "seed", "last", "validation"} <= set(content["finalists"][0]["results"][0])
