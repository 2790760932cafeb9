"""How many fold runs share a GPU: measured on the first, remembered for the next, and never more than fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from feature_store.settings import Settings
from orchestrator.events import Event, FoldDone
from orchestrator.execution.backends import SimulatedBackend
from orchestrator.execution.cluster import Cluster
from orchestrator.execution.gpu_sharing import SHARES, Packing, Slot, footprint, share_of
from orchestrator.studies.budget import Ledger
from orchestrator.sweep.run import run_sweep
from search_spaces.overrides import merge
from search_spaces.schema import Budget, Resources, SearchSpace
from tests.support.tiny_sweep import TINY_CONFIG, tiny_sweep
from workers.config import ExperimentConfig

pytestmark = pytest.mark.slow

GIB = 2**30


def config(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(merge(TINY_CONFIG, changes))


@pytest.mark.parametrize(
    ("peak", "device", "share"),
    [
        (2 * GIB, 80 * GIB, 0.25),
        (16 * GIB, 80 * GIB, 0.25),  # 1.2 x 16 and the context: 19.9 of 20
        (17 * GIB, 80 * GIB, 0.3333),
        (30 * GIB, 80 * GIB, 0.5),
        (40 * GIB, 80 * GIB, 1.0),
        (79 * GIB, 80 * GIB, 1.0),
        (0, 80 * GIB, 1.0),
        (2 * GIB, 0, 1.0),
    ],
)
def test_the_share_is_the_smallest_that_holds_the_peak(peak: int, device: int, share: float) -> None:
    assert share_of(peak, device) == share


def test_shares_never_add_up_to_more_than_a_device() -> None:
    assert all(share * round(1 / share) <= 1.0 for share in SHARES)


def test_configs_that_take_alike_share_what_is_known() -> None:
    packing = Packing(Resources(gpus="auto"))
    assert packing.slot(config()).gpus == 1.0, "nothing is known of the first"
    packing.note(config(), 2 * GIB, 80 * GIB)
    assert packing.slot(config(optim={"lr": 0.01})).gpus == 0.25
    assert packing.slot(config(training={"batch_size": 64})).gpus == 1.0, "another batch takes another memory"
    packing.note(config(), 30 * GIB, 80 * GIB)
    packing.note(config(), 1 * GIB, 80 * GIB)
    assert packing.slot(config()).gpus == 0.5, "the largest counts"
    assert footprint(config()) == footprint(config(optim={"lr": 0.01})) != footprint(config(model={"name": "cnn6"}))


def test_a_run_without_a_gpu_says_nothing_and_numbers_stay_numbers() -> None:
    packing = Packing(Resources(gpus="auto"))
    packing.note(config(), 2 * GIB, 0)
    assert packing.slot(config()).gpus == 1.0
    fixed = Packing(Resources(gpus=0.5), {footprint(config()): 0.25})
    assert fixed.slot(config()).gpus == 0.5


def test_what_fits_a_cluster_and_what_it_costs() -> None:
    auto, cluster = Resources(gpus="auto"), Cluster(nodes=1, cpus=16, gpus=2)
    assert cluster.slots(Slot.of(auto, SHARES[0])) == 8 and cluster.slots(Slot.of(auto)) == 2
    cluster.check(auto)
    ledger = Ledger(Budget(cost=10.0, cost_per_hour=4.0), auto)
    ledger.note(7200, 0.25)
    assert (ledger.gpu_hours, ledger.cost) == (0.5, 2.0)


@pytest.fixture
def gpus() -> Iterator[None]:
    """Two GPUs in Ray's books, on a machine that need not have any."""
    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_sweep_packs_its_second_fold_run_by_what_its_first_took(settings: Settings, gpus: None) -> None:
    space = SearchSpace.parse(
        tiny_sweep(
            evaluation={"split": "official-inner3"},
            search={"trials": 3, "sampler": "random", "pruner": {"name": "none"}},
            resources={"gpus": "auto", "concurrent_trials": 1},
        )
    )
    events: list[Event] = []
    run_sweep(space, settings, events.append, SimulatedBackend(peak_bytes=30 * GIB, device_bytes=80 * GIB))
    asked = [event.gpus for event in events if isinstance(event, FoldDone)]
    assert asked == [1.0] + [0.5] * 8
