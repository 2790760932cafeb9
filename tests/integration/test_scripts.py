"""The scripts of infra/ at work: a Ray head with a token, jobs on it, an MLflow server; and what the doctor says."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from feature_store.settings import Settings
from orchestrator.diagnosis import services as diagnosis
from tests.support import servers

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def clean(**environment: str) -> dict[str, str]:
    """This environment without what other tests or a developer's cluster left in it."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_A", "LUNGTUNE_", "MLFLOW_"))}
    return {**ours, "PATH": PATH, **environment}


@dataclass(frozen=True)
class Head:
    """A Ray head: where it listens, and its token's file."""

    address: str
    dashboard: str
    token: Path
    home: Path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    short = Path(tempfile.mkdtemp(prefix="ray-"))  # the names of Ray's sockets must be short
    port, dashboard, client = servers.free_ports(3)
    found = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", folder / "ray" / "token", folder / "home")
    environment = clean(
        RAY_AUTH_TOKEN_PATH=str(found.token),
        RAY_PORT=str(port),
        RAY_DASHBOARD_PORT=str(dashboard),
        LUNGTUNE_HOME=str(found.home),
    )
    command = [str(INFRA / "start-ray.sh"), "head", "--block", "--num-cpus=1", f"--temp-dir={short}"]
    command += [f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1"]
    command += ["--dashboard-agent-listen-port=0"]  # another Ray on this machine may have the usual one
    log = folder / "head.log"
    try:
        with servers.started(command, log, folder, environment) as process:
            servers.wait_for(f"{found.dashboard}/api/version", process, log)
            yield found
    finally:
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A working directory as small as the job needs, with the scripts in it."""
    shutil.copytree(INFRA, tmp_path / "checkout" / "infra")
    return tmp_path / "checkout"


def submit(head: Head, checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = clean(RAY_API_SERVER_ADDRESS=head.dashboard, RAY_AUTH_TOKEN_PATH=str(head.token)) | environment
    return subprocess.run(
        [str(checkout / "infra" / "submit.sh"), *command],
        env=everything,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_head_makes_a_token_for_its_owner_alone(head: Head) -> None:
    assert len(head.token.read_text()) == 64
    assert stat.S_IMODE(head.token.stat().st_mode) == 0o600


def test_a_job_runs_the_folders_code_and_ends_as_it_ended(head: Head, checkout: Path) -> None:
    (checkout / "job.py").write_text(
        "import os, sys, ray\n"
        "ray.init(log_to_driver=False)\n"
        "seen = [os.environ[f'LUNGTUNE_{name}'] for name in ('HOME', 'GIT_COMMIT')]\n"
        "print('cpus', ray.cluster_resources()['CPU'], *seen)\n"
        "sys.exit(7)\n"
    )
    ended = submit(head, checkout, "python", "job.py", SUBMISSION_ID="only-once", LUNGTUNE_GIT_COMMIT="abc123")
    assert ended.returncode == 7, ended.stdout + ended.stderr
    assert f"cpus 1.0 {head.home} abc123" in ended.stdout  # the head's settings, the client's commit
    assert "only-once: FAILED, exit code 7" in ended.stderr

    again = submit(head, checkout, "true", SUBMISSION_ID="only-once")
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr


def test_a_job_without_the_right_token_is_refused(head: Head, checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text("f" * 64)
    ended = submit(head, checkout, "true", RAY_AUTH_TOKEN_PATH=str(other))
    assert ended.returncode != 0
    assert "auth" in (ended.stdout + ended.stderr).lower()


@pytest.fixture
def member(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that leads to the cluster, with its token."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", head.address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))


@pytest.mark.usefixtures("member")
def test_the_doctor_sees_the_cluster(head: Head) -> None:
    assert diagnosis.ray_cluster() == diagnosis.Finding("ok", f"{head.address}: 1 CPU, 0 GPUs")


@pytest.mark.long
@pytest.mark.usefixtures("member")
def test_the_doctor_sees_what_keeps_from_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself takes 20 s to say that it could not connect, and does not say why."""
    (tmp_path / "token").write_text("f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    found = diagnosis.ray_cluster()
    assert found.state == "fail"
    assert "has this machine the head's token" in found.mend
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = diagnosis.ray_cluster()
    assert found.state == "fail"
    assert "RAY_AUTH_MODE=token" in found.mend


def test_mlflow_answers_to_its_names_only(tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    environment = clean(
        LUNGTUNE_HOME=str(tmp_path / "home"),
        MLFLOW_PORT=str(port),
        MLFLOW_SERVER_ALLOWED_HOSTS=f"127.0.0.1:{port}",
    )
    log = tmp_path / "mlflow.log"
    with servers.started([str(INFRA / "start-mlflow.sh")], log, tmp_path, environment) as process:
        servers.wait_for(f"http://127.0.0.1:{port}/health", process, log)
        home = Settings.load(tmp_path / "home")
        uri = f"http://127.0.0.1:{port}"
        assert diagnosis.mlflow_tracking(replace(home, mlflow=uri)) == diagnosis.Finding("ok", f"{uri} answers")
        found = diagnosis.mlflow_tracking(replace(home, mlflow=f"http://localhost:{port}"))
    assert found.state == "fail", "its health page answers to every name"
    assert f"MLFLOW_SERVER_ALLOWED_HOSTS=localhost:{port}" in found.mend
    assert (tmp_path / "home" / "mlflow.db").exists()
