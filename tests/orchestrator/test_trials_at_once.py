"""How many trials run at once, on a cluster that grows and shrinks too, and how many processes are started for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import ray
from optuna.trial import TrialState
from ray._private.state import actors
from ray.cluster_utils import Cluster

import orchestrator.sweep.tune_adapter as search
from feature_store.settings import Settings
from orchestrator.events import Event, FoldDone
from orchestrator.execution.backends import SimulatedBackend
from orchestrator.studies.storage import open_storage
from orchestrator.sweep.run import run_sweep
from search_spaces.schema import SearchSpace
from tests.support.tiny_sweep import tiny_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A node with one GPU in Ray's books, on a machine that need not have any."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1, "include_dashboard": False})
    ray.init(address=made.address, log_to_driver=False)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


class AtOnce:
    """How many trials the study has under way at each fold run's end; something is done after some of them."""

    def __init__(self, settings: Settings, then: dict[int, Any]) -> None:
        self.location, self.then, self.seen = settings.optuna, then, list[int]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, FoldDone):
            study = optuna.load_study(study_name=None, storage=open_storage(self.location))
            self.seen.append(len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))))
            self.then.get(len(self.seen), lambda: None)()


def sweep(trials: int, **resources: Any) -> SearchSpace:
    content = tiny_sweep(
        evaluation={"split": "official-inner3"},
        search={"trials": trials, "sampler": "random", "pruner": {"name": "none"}},
        resources={"gpus": 1, **resources},
    )
    return SearchSpace.parse(content)


def test_quick_trials_share_as_many_processes_as_run_at_once(cluster: Cluster, settings: Settings) -> None:
    """A process takes seconds to start, and none is thrown away for the next trial's."""
    before = len(actors())  # all that there ever were
    run_sweep(sweep(16, gpus=0, concurrent_trials=4), settings, backend=SimulatedBackend())
    assert len(actors()) - before == 4


def test_gpus_that_join_or_leave_change_how_many_trials_run_at_once(
    cluster: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOK", 0.0)
    nodes: list[Any] = []

    def join() -> None:
        nodes.append(cluster.add_node(num_cpus=2, num_gpus=1))

    def leave() -> None:
        cluster.remove_node(nodes.pop())
        while ray.cluster_resources()["GPU"] > 1:
            time.sleep(0.1)

    watched = AtOnce(settings, {3: join, 18: leave})
    outcome = run_sweep(sweep(12), settings, watched, SimulatedBackend(seconds=0.3))
    assert [trial.state for trial in outcome.trials] == ["COMPLETE"] * 12
    assert (max(watched.seen[:3]), max(watched.seen[3:18]), max(watched.seen[-6:])) == (1, 2, 1)


def test_a_number_that_was_asked_for_stays(
    cluster: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOK", 0.0)
    watched = AtOnce(settings, {3: lambda: cluster.add_node(num_cpus=2, num_gpus=1)})
    run_sweep(sweep(4, concurrent_trials=1), settings, watched, SimulatedBackend(seconds=0.1))
    assert max(watched.seen) == 1
