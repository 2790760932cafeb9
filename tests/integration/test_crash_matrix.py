"""The crash matrix: whatever is killed, the same command again ends with the table of the undisturbed sweep.

Every fold is trained to its end exactly once by the audit log, MLflow has no run twice and none left running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from feature_store.settings import Settings
from tests.support.servers import free_ports, started, wait_for
from tests.support.tiny_sweep import tiny_sweep
from workers.audit_log import AuditLog
from workers.results import ResultStore

DRIVER = Path(__file__).with_name("crash_driver.py")
ROOT = Path(__file__).resolve().parents[2]
SPACE = tiny_sweep(
    name="crash",
    base={"model": {"hidden": 8}, "training": {"epochs": 5, "batch_size": 8}},  # long enough to be struck in a fold
    promotion={"seeds": [0]},
    search={"trials": 3, "startup_trials": 2, "pruner": {"name": "none"}},
    resources={"concurrent_trials": 1},
)
FOLD_RUNS = 3 * 2 + 1


@pytest.fixture(scope="module")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "crash.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


@pytest.fixture
def home(tmp_path: Path, small_home: Path, empty_database: Path) -> Path:
    return fresh(tmp_path / "home", small_home, empty_database)


def fresh(home: Path, small_home: Path, empty_database: Path) -> Path:
    shutil.copytree(Settings.load(small_home).store, home / "store")
    shutil.copy(empty_database, home / "mlflow.db")
    return home


def start(home: Path, space: Path, fault: str = "none", **environment: str) -> subprocess.Popen[str]:
    own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(home), str(space), fault],
        cwd=ROOT, env={**own, "PYTHONPATH": str(ROOT), **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], patience: float = 240) -> tuple[int, str, str]:
    printed, told = process.communicate(timeout=patience)
    return process.returncode, printed, told


def table(printed: str) -> list[tuple[Any, ...]]:
    """What a reader sees in the end: configs, states and Scores, and the finalist's."""
    outcome = json.loads(next(line for line in printed.splitlines() if line.startswith('{"study"')))  # Ray prints too
    trials = [(t["config_hash"], t["state"], round(t["value"], 6), t["fold_runs"]) for t in outcome["trials"]]
    finalists = [[run["hash"], round(run["last"]["score"], 6)] for f in outcome["finalists"] for run in f["results"]]
    assert all(finalist["registered"] for finalist in outcome["finalists"])
    return [*sorted(trials), *map(tuple, finalists)]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, small_home: Path, empty_database: Path, space_file: Path
) -> Iterator[list[tuple[Any, ...]]]:
    home = fresh(tmp_path_factory.mktemp("undisturbed"), small_home, empty_database)
    code, printed, told = finish(start(home, space_file))
    assert code == 0, told
    check_records(home)
    yield table(printed)


def check_records(home: Path, mlflow: str | None = None, results: str | None = None) -> None:
    """Each fold run was trained to its end once, and MLflow tells one story."""
    settings = Settings.load(home)
    settings = replace(settings, mlflow=mlflow or settings.mlflow, results=results or settings.results)
    log = AuditLog.open(settings.results).entries()
    trained = Counter(entry.run for entry in log if entry.event == "trained")
    assert len(trained) == FOLD_RUNS and set(trained.values()) == {1}, trained
    assert set(trained) == set(ResultStore.open(settings.results).hashes())
    client = MlflowClient(settings.mlflow)
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id], max_results=1000)]
    fingerprints = Counter(run.data.tags["lungtune.fingerprint"] for run in runs)
    assert len(fingerprints) == 1 + 3 + 1 and set(fingerprints.values()) == {1}, fingerprints
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    kinds = Counter((run.data.tags["lungtune.kind"], run.info.status) for run in runs)
    assert kinds == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 3, ("finalist", "FINISHED"): 1}
    for run in runs:
        if run.data.tags["lungtune.kind"] == "trial":
            assert {"objective", "fold0/last_score", "fold1/last_score"} <= set(run.data.metrics)


@pytest.mark.parametrize(
    "fault", ["before_the_first_fold", "in_a_fold", "between_result_and_tell", "between_tell_and_mlflow"]
)
def test_a_driver_killed_anywhere(fault: str, home: Path, space_file: Path, undisturbed: list) -> None:
    code, printed, told = finish(start(home, space_file, fault))
    assert code == -9 and not printed, told
    code, printed, told = finish(start(home, space_file))
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home)


def test_a_worker_killed_in_a_fold(home: Path, space_file: Path, undisturbed: list) -> None:
    code, printed, told = finish(start(home, space_file, "worker"))
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home)
    begun = Counter(e.run for e in AuditLog.open(Settings.load(home).results).entries() if e.event == "begun")
    assert sorted(begun.values()) == [1] * (FOLD_RUNS - 1) + [2], "the killed fold was begun again by Ray"


def test_a_driver_that_is_told_to_stop(home: Path, space_file: Path, undisturbed: list) -> None:
    code, printed, told = finish(start(home, space_file, "terminated"))
    assert code == 130 and not printed, told
    settings = Settings.load(home)
    client = MlflowClient(settings.mlflow)
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    assert runs and not [run for run in runs if run.info.status == "RUNNING"], "it closes its runs before it ends"
    code, printed, told = finish(start(home, space_file))
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home)


def test_two_drivers_on_one_study(home: Path, space_file: Path, undisturbed: list) -> None:
    first, second = start(home, space_file), start(home, space_file)
    ended = {finish(process)[:2] for process in (first, second)}
    assert sorted(code for code, _ in ended) == [0, 2]
    assert table(next(printed for code, printed in ended if code == 0)) == undisturbed
    check_records(home)


# --- services and machines ---


def wait_until(condition: Callable[[], Any], patience: float = 120) -> Any:
    """What the condition gives once it gives anything."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def training(home: Path, finished: int = 1) -> bool:
    """Whether a fold run is being trained after so many finished ones."""
    events: dict[str, list[str]] = {}
    for entry in AuditLog.open(Settings.load(home).results).entries():
        events.setdefault(entry.run, []).append(entry.event)
    return ["begun"] in events.values() and sum("published" in those for those in events.values()) >= finished


@contextlib.contextmanager
def mlflow_server(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server of its own process group, answering."""
    environment = {**os.environ, "LUNGTUNE_HOME": str(home / "mlflow"), "MLFLOW_PORT": str(port)}
    log = home / "mlflow.log"
    with started([str(ROOT / "infra" / "start-mlflow.sh")], log, home, environment) as server:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield server


def test_a_tracking_server_that_is_lost_for_a_while(home: Path, space_file: Path, undisturbed: list) -> None:
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(home, port) as server:
        driver = start(home, space_file, LUNGTUNE_MLFLOW=uri)
        wait_until(lambda: training(home))
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        wait_until(lambda: training(home, finished=3))  # the sweep goes on without it
    with mlflow_server(home, port):
        code, printed, told = finish(driver)
        assert code == 0 and "MlflowLost(" in told, told
        assert table(printed) == undisturbed
        check_records(home, uri)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds some results and not all."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a file system of a limited size needs the right to mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(home: Path, space_file: Path, undisturbed: list, full_disk: Path) -> None:
    results = str(full_disk / "results")
    code, printed, told = finish(start(home, space_file, "impatient", LUNGTUNE_RESULTS=results))
    assert code == 2 and "No space left" in told and "same command again" in told, told
    finished = len(ResultStore.open(results).hashes())
    assert 0 < finished < FOLD_RUNS
    subprocess.run(["mount", "-o", "remount,size=50m", str(full_disk)], check=True)
    code, printed, told = finish(start(home, space_file, LUNGTUNE_RESULTS=results))
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home, results=results)


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A head that runs no fold, and a node that does: real raylets and a real GCS, in processes of their own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_a_node_killed_in_a_fold(home: Path, space_file: Path, undisturbed: list, two_nodes: Any) -> None:
    driver = start(home, space_file, RAY_ADDRESS=two_nodes.address)
    wait_until(lambda: training(home))
    (node,) = two_nodes.worker_nodes
    two_nodes.remove_node(node, allow_graceful=False)
    two_nodes.add_node(num_cpus=1, wait=False)  # as an autoscaler replaces a lost spot machine
    code, printed, told = finish(driver)
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home)


def test_the_head_killed_in_a_fold(home: Path, space_file: Path, undisturbed: list, two_nodes: Any) -> None:
    impatient = {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    driver = start(home, space_file, RAY_ADDRESS=two_nodes.address, **impatient)
    wait_until(lambda: training(home))
    two_nodes.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    code, printed, _ = finish(driver)
    assert code != 0 and '"finalists"' not in printed, "no table without a head"
    for node in list(two_nodes.worker_nodes):
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    code, printed, told = finish(start(home, space_file))
    assert code == 0, told
    assert table(printed) == undisturbed
    check_records(home)
