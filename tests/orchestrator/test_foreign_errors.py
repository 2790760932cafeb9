"""What a disk, a server or a reader does ends a command with a message and the right code, a fault of ours with 1."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from feature_store.errors import UserError
from feature_store.settings import Settings
from infra.services.ports import free_ports
from orchestrator.cli import presets
from orchestrator.cli.foreign_errors import explain
from orchestrator.diagnosis import mlflow_file
from orchestrator.execution import surroundings
from tests.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "orchestrator", "presets", "list"]


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "LUNGTUNE_HOME": str(tmp_path / "home"), **changes}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    uri = f"sqlite:///{path}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models()
    return path


# --- the reader, the disk ---


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(COMMAND, env=environment(tmp_path), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_an_output_on_a_full_disk_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            COMMAND, env=environment(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert "the disk is full" in ended.stderr and "Traceback" not in ended.stderr and "Exception" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [("registry", "list"), ("status",), ("leaderboard", "build"), ("nightly",), ("predict", "champion", "x.wav")],
    ids=lambda words: words[0],
)
def test_a_home_that_cannot_be_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUNGTUNE_HOME", str(tmp_path / "file" / "home"))
    code, _, error = run(*arguments)
    assert code == 2, error
    assert str(tmp_path / "file") in error and "a fault of lungtune" not in error


def test_errors_of_the_operating_system_say_where_and_what_to_do() -> None:
    for number, words in ((28, "disk is full"), (30, "read-only"), (13, "permission"), (36, "too long")):
        told = explain(OSError(number, os.strerror(number), "/data/x"))
        assert told is not None and words in told.what and told.where == "/data/x" and told.hint


# --- a fault of lungtune ---


def test_a_fault_of_lungtune_exits_1_and_keeps_its_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "out", None)  # the command's own code then raises an AttributeError
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, error = run("presets", "list")
    assert code == 1 and "a fault of lungtune" in error and "Traceback" not in error
    kept = next(tmp_path.glob("lungtune-traceback-*"))
    assert kept.name in error.replace(" ", "") and kept.stat().st_mode & 0o077 == 0
    assert "presets.py" in kept.read_text() and "AttributeError" in kept.read_text()
    monkeypatch.setenv("LUNGTUNE_TRACEBACK", "1")
    assert "Traceback" in run("presets", "list")[2]


# --- MLflow ---


@pytest.mark.parametrize(("revision", "words"), [("451aebb31d03", "db upgrade"), ("ffffffffffff", "newer")])
def test_a_database_of_another_mlflow(
    run: Run, tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, revision: str, words: str
) -> None:
    path = tmp_path / "other.db"
    shutil.copy(database, path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    monkeypatch.setenv("LUNGTUNE_MLFLOW", str(path))
    before = path.read_bytes()
    code, _, error = run("registry", "list")
    assert code == 2 and words in error and str(path) in error
    assert path.read_bytes() == before


def test_a_damaged_database_and_a_sound_one(tmp_path: Path, database: Path) -> None:
    assert mlflow_file.refusal(database) is None
    assert mlflow_file.refusal(tmp_path / "new.db") is None
    damaged = tmp_path / "damaged.db"
    content = bytearray(database.read_bytes())
    content[8192:20000] = b"\xff" * (20000 - 8192)
    damaged.write_bytes(content)
    for path in (damaged, tmp_path):
        assert mlflow_file.refusal(path) is not None


def test_a_server_that_is_down_is_told_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGTUNE_MLFLOW", f"http://127.0.0.1:{free_ports(1)[0]}")
    for arguments in (("registry", "list"), ("registry", "show", "champion"), ("predict", "champion", "x.wav")):
        code, _, error = run(*arguments)
        assert code == 2 and "does not answer" in error and "start-mlflow.sh" in error


# --- surroundings ---


def test_proxies_are_kept_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert requests.utils.get_environ_proxies("http://127.0.0.1:5000/")
    surroundings.reach_this_machine()
    for host in ("127.0.0.1", "localhost", "example.org"):
        assert not requests.utils.get_environ_proxies(f"http://{host}:5000/"), host
    assert requests.utils.get_environ_proxies("http://elsewhere.example/")


def test_a_long_temporary_folder_sends_ray_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert surroundings.ray_folder() is None
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 90)))
    monkeypatch.setattr(surroundings, "SHORT_FOLDERS", ("/tmp",))
    place = surroundings.ray_folder()
    assert place is not None and place.name == "ray" and len(str(place.parent)) + surroundings.IN_SESSION <= 107
    assert place.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(surroundings, "SHORT_FOLDERS", ())
    with pytest.raises(UserError, match="107 bytes"):
        surroundings.ray_folder()


def test_a_bad_endpoint_and_bucket_of_s3(run: Run, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    for endpoint, bucket in (("nonsense", "bucket"), ("http://127.0.0.1:9", "b u c k e t")):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("LUNGTUNE_STORE", f"s3://{bucket}/x")
        code, _, error = run("features", "list")
        assert code == 2 and "AWS_ENDPOINT_URL" in error, error
