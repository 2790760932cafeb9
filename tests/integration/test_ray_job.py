"""`ray job submit` on a head with token authentication does what `lungtune sweep` does on a laptop."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from feature_store.settings import Settings
from tests.support import servers
from tests.support.tiny_sweep import tiny_sweep
from workers.results import ResultStore

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).parent / "ray"


@pytest.fixture(scope="module")
def environment(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "token").write_text(secrets.token_hex(32))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **clean,
        "PATH": f"{RAY.parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "LUNGTUNE_HOME": str(folder / "home"),
        "LUNGTUNE_STORE": Settings.load(small_home).store,
    }


@pytest.fixture(scope="module")
def head(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head of its own; the address of its dashboard."""
    port, dashboard = servers.free_ports(2)
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=2", f"--port={port}", "--include-dashboard=true"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", "--dashboard-agent-listen-port=0"]
    folder, address = tmp_path_factory.mktemp("head"), f"http://127.0.0.1:{dashboard}"
    with servers.started(command, folder / "log", folder, environment) as process:
        servers.wait_for(f"{address}/api/version", process, folder / "log")
        yield address


def submit(head: str, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", "submit", "--address", head, "--working-dir", ".", "--", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_sweep_as_a_job_and_again(head: str, environment: dict[str, str], tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(tiny_sweep(name="job")))
    done = submit(head, environment, "python", "-m", "orchestrator", "sweep", str(space))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 fold runs trained" in done.stdout
    results = ResultStore.open(str(Path(environment["LUNGTUNE_HOME"]) / "results")).hashes()
    assert len(results) == 4 + 2, "two folds of two trials, and two seeds on the whole training side"

    again = submit(head, environment, "python", "-m", "orchestrator", "sweep", str(space))
    assert again.returncode == 0 and "0 fold runs trained" in again.stdout
    listed = submit(head, environment, "python", "-m", "orchestrator", "registry", "list")
    assert "icbhi-lungsound4/1" in listed.stdout and "champion" in listed.stdout


def test_more_gpus_than_the_cluster_has_are_refused_at_once(
    head: str, environment: dict[str, str], tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(tiny_sweep(name="job", resources={"gpus": 1})))
    done = submit(head, environment, "python", "-m", "orchestrator", "sweep", str(space))
    assert done.returncode != 0
    assert "asks for 1 GPU, the cluster has 0" in done.stdout


def test_without_the_token_nothing_is_submitted(head: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32))
    stranger = {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    done = submit(head, stranger, "python", "-c", "print('inside')")
    assert done.returncode != 0 and "inside" not in done.stdout
