"""Two programs that would train one fold run at once: one waits for the other, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from feature_store.settings import Settings
from feature_store.storage import LocalStorage
from tests.conftest import TINY_FEATURE
from workers.audit_log import AuditLog
from workers.claim import claim
from workers.results import ResultStore

pytestmark = pytest.mark.slow

CONFIG = {
    "feature": TINY_FEATURE,
    "model": {"name": "crnn", "hidden": 4, "layers": 1},
    "objective": {"name": "ce"},
    "training": {"epochs": 40, "batch_size": 4},
}


def train(settings: Settings, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrator", "train", str(path), "--json"]
    environment = {**os.environ, "LUNGTUNE_HOME": str(settings.home), "LUNGTUNE_STORE": settings.store}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def until_begun(settings: Settings, runs: int = 1) -> None:
    deadline = time.monotonic() + 100
    while len(AuditLog.open(settings.results).names()) < runs:
        assert time.monotonic() < deadline, "nothing began"
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def test_two_trainings_of_one_config_train_once_and_read_the_test_side_once(settings: Settings, path: Path) -> None:
    both = [train(settings, path) for _ in range(2)]
    answers = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert json.loads(answers[0][0]) == json.loads(answers[1][0])
    (result,) = ResultStore.open(settings.results).iterate()
    events = [event for _, event, _ in AuditLog.open(settings.results).names()]
    assert sorted(events) == ["begun", "published", "test_read", "trained"], (
        "one training, one reading of the test side"
    )
    assert result.test_reads == 1
    assert not list(Path(settings.results).rglob("*.lock"))


def test_a_killed_holder_is_not_waited_for(settings: Settings, path: Path) -> None:
    first = train(settings, path)
    until_begun(settings)
    second = train(settings, path)
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, told = second.communicate(timeout=200)
    assert second.returncode == 0, told
    events = [event for _, event, _ in AuditLog.open(settings.results).names()]
    assert events.count("published") == events.count("trained") == 1


def test_a_claim_is_one_programs_and_a_wait_can_be_ended(tmp_path: Path) -> None:
    storage, waits = LocalStorage(tmp_path), []
    with claim(storage, "abc") as held:
        assert held
        with claim(storage, "abc", on_wait=lambda: waits.append(1), stop_waiting=lambda: len(waits) > 0) as second:
            assert not second
        with claim(storage, "other") as third:
            assert third
    assert waits == [1]
    with claim(storage, "abc") as again:
        assert again
    assert storage.list("") == [], "a lock is no content of the store"
