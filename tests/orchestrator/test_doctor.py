"""The doctor finds what is wrong and says how to mend it; it never hangs and shows no password."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna
import pytest

from feature_store import redaction
from feature_store.settings import Settings
from infra.services.ports import free_ports
from orchestrator.diagnosis import machine, services
from orchestrator.diagnosis.services import Finding

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("RAY_AUTH", "RAY_ADDRESS", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)


def run_doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", "doctor", *arguments]
    paths = {"PYTHONPATH": str(ROOT), "LUNGTUNE_HOME": str(folder / "home")}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_A", "LUNGTUNE_"))}
    everything = {**clean, **paths, **environment}
    return subprocess.run(command, cwd=folder, env=everything, capture_output=True, text=True, timeout=120, check=False)


def closed_port() -> int:
    return free_ports(1)[0]


# --- the command ---


@pytest.mark.slow
def test_a_sound_installation_exits_0_and_says_so_in_json(tmp_path: Path) -> None:
    ended = run_doctor(tmp_path, "--json")
    checks = json.loads(ended.stdout)
    assert ended.returncode == 0, checks
    assert [set(check) for check in checks] == [{"name", "state", "found", "mend"}] * len(checks)
    found = {check["name"]: check for check in checks}
    assert found["feature store"]["state"] == "warn"  # a new home has none
    assert "lungtune features build" in found["feature store"]["mend"]
    assert {check["state"] for name, check in found.items() if name in {"packages", "torch", "audio"}} == {"ok"}
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["cache"]  # looking makes nothing


@pytest.mark.slow
def test_what_fails_exits_1_with_what_to_do_and_without_passwords(tmp_path: Path) -> None:
    ended = run_doctor(
        tmp_path,
        LUNGTUNE_MLFLOW=f"http://ann:hush1@127.0.0.1:{closed_port()}",
        LUNGTUNE_OPTUNA=f"postgresql+psycopg2://ann:hush2@127.0.0.1:{closed_port()}/optuna",
        RAY_ADDRESS=f"127.0.0.1:{closed_port()}",
    )
    assert ended.returncode == 1
    for words in ("infra/start-mlflow.sh", "LUNGTUNE_OPTUNA", "start-ray.sh head", "refused"):
        assert words in " ".join(ended.stdout.split()), words
    for secret in ("hush1", "hush2", "ann:"):
        assert secret not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_bad_settings_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "lungtune.toml").write_text('stroe = "x"\n')
    ended = run_doctor(tmp_path)
    assert ended.returncode == 2
    assert "stroe" in ended.stderr and "store" in ended.stderr


# --- one check at a time ---


@pytest.mark.slow
def test_an_exception_and_a_hang_are_findings() -> None:
    def broken() -> Finding:
        raise RuntimeError("cannot reach postgresql://ann:hush@db/x\nmore")

    check = machine.guarded("it", broken)
    assert (check.state, check.found) == ("fail", "RuntimeError: cannot reach postgresql://***@db/x")
    started = time.monotonic()
    check = machine.guarded("it", lambda: time.sleep(30) or Finding("ok", ""), patience=0.2)
    assert check.state == "fail" and "0.2 s" in check.found
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://ann:hush@db:5432/x", "hush"),
        ("mysql://ann:hu@sh@db/x", "hu"),
        ("mysql://ann:hu/sh@db/x", "sh@"),
        ("postgresql://db/x?user=ann&password=hush", "hush"),
        ("s3://b/p?secret_access_key=hush", "hush"),
        ("http://token@host", "token"),
    ],
)
def test_passwords_are_masked(text: str, hidden: str) -> None:
    assert hidden not in redaction.mask(f"it said: '{text}'")


@pytest.mark.parametrize(
    "text", ["http://host:5000/a", "s3://bucket/prefix", "sqlite:////home/ann@lab/x.db", "a@b.org"]
)
def test_other_text_is_not(text: str) -> None:
    assert redaction.mask(text) == text


@pytest.mark.slow
@pytest.mark.parametrize("password", ["p@hush", "p/hush"])
def test_a_password_that_is_not_encoded_is_not_shown_in_pieces(settings: Settings, password: str) -> None:
    """Left to the drivers, `could not translate host name "hush"` would show half of it."""
    uris = f"postgresql://ann:{password}@db/x", f"http://ann:{password}@host:5000"
    found = services.optuna_storage(replace(settings, optuna=uris[0]))
    server = services.mlflow_tracking(replace(settings, mlflow=uris[1]))
    for finding in (found, server):
        assert finding.state == "fail" and "%40" in finding.mend
        assert "hush" not in redaction.mask(finding.found)


def test_packages_are_held_against_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.packages().state == "ok"
    real = metadata.version

    def other(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return "2.13.0" if name == "torch" else real(name)

    monkeypatch.setattr(metadata, "version", other)
    found = machine.packages()
    assert found.state == "fail"
    assert "torch 2.13.0 is not <2.12,>=2.11" in found.found and "timm is missing" in found.found
    assert "torchaudio" not in found.found and "pytest" not in found.found


def test_torch_and_companions_of_different_builds_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.torch_build().state == "ok"
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as an import that fails
    found = machine.torch_build()
    assert found.state == "fail" and "requirements.lock" in found.mend


def test_small_shared_memory_and_disk_are_warned_of(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(machine, "SMALL_DISK", 0)
    found = machine.disk(settings)
    assert (found.state, found.mend) == ("ok", "") and "GB free at" in found.found
    monkeypatch.setattr(machine, "SMALL_DISK", 1e18)
    monkeypatch.setattr(machine, "SMALL_SHM", 1e18)
    monkeypatch.setattr(machine, "SMALL_MEMORY", 1e18)
    assert "LUNGTUNE_HOME" in machine.disk(settings).mend
    assert "--shm-size" in machine.shared_memory(settings.home.parent).mend
    assert machine.memory().state == "warn"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = services.writable(tmp_path / "file" / "home", "LUNGTUNE_HOME")
    assert found.state == "fail" and "LUNGTUNE_HOME" in found.mend
    assert services.writable(tmp_path / "new", "LUNGTUNE_HOME").state == "ok"
    assert list((tmp_path / "new").iterdir()) == []


def test_feature_store_of_this_and_of_another_version(settings: Settings, tmp_path: Path) -> None:
    found = services.feature_store(settings)
    assert found.state == "ok" and "icbhi/fbank-" in found.found
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "store.json").write_text('{"version": 99}')
    found = services.feature_store(replace(settings, store=str(tmp_path / "other")))
    assert found.state == "fail" and "99" in found.found


def test_a_store_of_no_known_kind(settings: Settings) -> None:
    assert services.feature_store(replace(settings, store="gopher://x/y")).state == "fail"
    assert services.result_store(replace(settings, results="gopher://x/y")).state == "fail"
    assert services.result_store(settings) == Finding("ok", f"{settings.results}: 0 results")


def test_optuna_journal(settings: Settings) -> None:
    from orchestrator.studies.storage import open_storage

    assert "made by the first sweep" in services.optuna_storage(settings).found
    assert not Path(settings.optuna).exists()
    optuna.create_study(study_name="one", storage=open_storage(settings.optuna))
    assert services.optuna_storage(settings).found.endswith("1 study")
    Path(settings.optuna).write_text("no\njournal\n")
    found = services.optuna_storage(settings)
    assert found.state == "fail" and "LUNGTUNE_OPTUNA" in found.mend


@pytest.mark.slow
def test_optuna_database(settings: Settings, tmp_path: Path) -> None:
    database = replace(settings, optuna=f"sqlite:///{tmp_path}/optuna.db")
    assert "made by the first sweep" in services.optuna_storage(database).found
    optuna.create_study(study_name="one", storage=database.optuna)
    assert services.optuna_storage(database).found.endswith("1 study")
    missing = services.optuna_storage(replace(settings, optuna="mysql+nosuchdriver://db/x"))
    assert missing.state == "fail"


@pytest.mark.slow
def test_mlflow_database(settings: Settings) -> None:
    import mlflow

    path = Path(settings.mlflow.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True)
    assert "made by the first sweep" in services.mlflow_tracking(settings).found
    assert not path.exists()
    path.write_text("no database, but long enough to be looked at as if it were one" * 10)
    assert services.mlflow_tracking(settings).state == "fail"
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    assert services.mlflow_tracking(settings).state == "fail"
    path.unlink()
    client = mlflow.MlflowClient(settings.mlflow)
    client.create_run(client.create_experiment("one"))
    assert services.mlflow_tracking(settings) == Finding("ok", f"{path}: 1 run")
    assert services.mlflow_tracking(replace(settings, mlflow="file:///tmp/mlruns")).state == "fail"


# --- servers ---


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as an MLflow server with users does, or with what is no JSON."""

    def do_GET(self) -> None:
        user = self.headers.get("Authorization")
        if not self.path.startswith("/api/2.0/mlflow/experiments/search"):
            self.send_error(404)
        elif user == "Basic YW5uOmh1c2hANDI=":  # ann:hush@42
            self._send(b'{"experiments": []}')
        elif user == "Bearer words":
            self._send(b"<html>welcome</html>")
        else:
            self.send_error(401)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_mlflow_with_users(settings: Settings, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(uri: str) -> Finding:
        return services.mlflow_tracking(replace(settings, mlflow=uri))

    assert look(f"http://ann:hush%4042@{server}/") == Finding("ok", f"http://{server} answers")
    refused = look(f"http://{server}")
    assert refused.state == "fail" and "MLFLOW_TRACKING_USERNAME" in refused.mend
    assert look(f"http://{server}/elsewhere").mend == "is it the address of an MLflow server?"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "words")
    assert "not as MLflow does" in look(f"http://{server}").found
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush@42")
    assert look(f"http://{server}").state == "ok"
    assert look(f"http://127.0.0.1:{closed_port()}").state == "fail"
    assert look("http://127.0.0.1:port").state == "fail"


def test_ray_cluster_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.ray_cluster().state == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert services.ray_cluster().state == "ok"


def test_ray_cluster_that_is_misnamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    assert "RAY_API_SERVER_ADDRESS" in services.ray_cluster().mend
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port()}")
    assert "nobody listens" in services.ray_cluster().found
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    found = services.ray_cluster()
    assert found.state == "fail" and f"no token at {tmp_path / 'none'}" in found.found


@pytest.mark.slow
def test_a_ray_cluster_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something listens, and says nothing: left alone, Ray tries for two minutes."""
    monkeypatch.setattr(services, "JOINING", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        found = services.ray_cluster()
    assert time.monotonic() - started < 15
    assert found.state == "fail" and "no answer within 3 s" in found.found
    assert "RAY_AUTH_MODE=token" in found.mend
