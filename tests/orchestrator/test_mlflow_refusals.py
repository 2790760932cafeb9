"""What MLflow refuses is reported as a refusal, with what to do, and before anything trains where it can be known."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import HTTPError, InvalidURL
from requests.models import Response

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.events import MlflowRefused
from orchestrator.tracking.client import check_tracking, connect, experiment_id, is_lost
from orchestrator.tracking.tracker import Tracker
from search_spaces.overrides import flatten
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from tests.support.registry_home import NAME
from tests.support.tiny_sweep import TINY_CONFIG, tiny_sweep
from workers.config import ExperimentConfig


@pytest.fixture
def tracked(settings: Settings, empty_database: Path) -> Settings:
    """Settings of a home with an empty database of MLflow's, as `run` takes."""
    settings.home.mkdir()
    shutil.copy(empty_database, settings.home / "mlflow.db")
    return settings


@pytest.mark.slow
def test_a_deleted_experiment_is_told_before_anything_trains_and_the_hint_mends_it(
    run: Run, tracked: Settings, tmp_path: Path
) -> None:
    client = connect(tracked)
    number = experiment_id(client, NAME, tracked)
    client.delete_experiment(number)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_sweep(search={"trials": 1})))
    code, _, told = run("sweep", tmp_path / "tiny.yaml")
    assert code == 2 and f"the experiment '{NAME}' was deleted" in told
    assert f"mlflow experiments restore --experiment-id {number}" in told
    assert not Path(tracked.optuna).exists() and not Path(tracked.results).exists()
    client.restore_experiment(number)
    check_tracking(tracked, NAME)


def test_a_database_of_another_version_is_refused_and_no_outage(tracked: Settings) -> None:
    with sqlite3.connect(tracked.home / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'abcdefabcdef'")
    with pytest.raises(UserError, match="newer MLflow or another program"):
        check_tracking(tracked, NAME)


@pytest.mark.slow
def test_what_a_killed_writer_left_is_rolled_back(run: Run, tracked: Settings) -> None:
    path = tracked.home / "mlflow.db"
    script = (
        "import os, signal, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('PRAGMA cache_size = 1')\n"  # its pages reach the file before the commit
        "connection.execute('UPDATE alembic_version SET version_num = 0')\n"
        "connection.execute('CREATE TABLE t AS SELECT randomblob(500000)')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    assert path.with_name("mlflow.db-journal").stat().st_size
    check_tracking(tracked, NAME)
    assert not path.with_name("mlflow.db-journal").exists()
    code, out, told = run("doctor")
    assert code == 0 and "mlflow.db: 0 runs" in out, out + told


def test_a_server_that_is_down_is_waited_for(tracked: Settings) -> None:
    check_tracking(replace(tracked, mlflow="http://127.0.0.1:9"), NAME)


def test_an_experiment_deleted_meanwhile_is_a_refusal(tracked: Settings) -> None:
    events: list[Any] = []
    space = SearchSpace.parse(tiny_sweep())
    with Tracker.open(tracked, space, "s", events.append) as tracker:
        tracker.client.delete_experiment(tracker.experiment)
        tracker.finish_sweep([], frozenset())
    assert {type(event) for event in events} == {MlflowRefused}
    assert "was deleted" in events[0].error or "active" in events[0].error


def _answer(status: int) -> HTTPError:
    response = Response()
    response.status_code = status
    return HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (MlflowException("API request failed"), True),
        (MlflowException("busy", databricks_pb2.TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("no", databricks_pb2.PERMISSION_DENIED), False),
        (MlflowException("who?", databricks_pb2.UNAUTHENTICATED), False),
        (MlflowException("bad name", databricks_pb2.INVALID_PARAMETER_VALUE), False),
        (MlflowException("gone", databricks_pb2.RESOURCE_DOES_NOT_EXIST), False),
        (_answer(503), True),
        (_answer(403), False),
        (RequestsConnectionError(), True),
        (InvalidURL(), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (PermissionError(13, "Permission denied"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_only_what_cannot_be_reached_is_an_outage(error: Exception, lost: bool) -> None:
    assert is_lost(error) is lost


@pytest.mark.slow
def test_every_parameter_is_written(tracked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a config of more settings than MLflow takes in one call."""
    config = ExperimentConfig.parse(TINY_CONFIG)
    content = {**config.model_dump(mode="json"), "many": {f"p{number}": number for number in range(230)}}
    real = ExperimentConfig.model_dump
    monkeypatch.setattr(
        ExperimentConfig, "model_dump", lambda self, **how: real(self, **how) if set(how) != {"mode"} else content
    )
    events: list[Any] = []
    with Tracker.open(tracked, SearchSpace.parse(tiny_sweep()), "s", events.append) as tracker:
        tracker.outbox.put(lambda: tracker._run("s:trial", "trial", {}, config))
        tracker.outbox.wait(30)
        assert not events
        params = tracker.client.get_run(tracker.runs["s:trial"].run_id).data.params
    assert params == {key: str(value) for key, value in flatten(content).items()} and len(params) > 230
