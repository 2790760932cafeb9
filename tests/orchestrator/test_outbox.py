"""Jobs for a server that may be lost: their order, their second attempts, and what is left at the end."""

from __future__ import annotations

import threading
import time

import pytest

import orchestrator.tracking.background_writer as outbox_module
from orchestrator.tracking.background_writer import Outbox


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "FIRST_WAIT", 0.01)


def test_a_lost_server_delays_its_jobs_and_changes_neither_their_order_nor_their_number() -> None:
    told: list[str] = []
    outbox = Outbox(lambda error: isinstance(error, OSError), lambda error: told.append(str(error)))
    done: list[int] = []
    attempts = 0

    def flaky() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise OSError("connection refused")
        done.append(1)

    for job in (lambda: done.append(0), flaky, lambda: done.append(2)):
        outbox.put(job)
    assert outbox.close(10) == 0
    assert done == [0, 1, 2] and attempts == 4 and told == ["connection refused"], "an outage is told once"


def test_a_job_that_is_wrong_is_told_and_dropped() -> None:
    told: list[str] = []
    outbox = Outbox(lambda error: isinstance(error, OSError), lambda error: told.append(str(error)))
    outbox.put(lambda: 1 / 0)
    assert outbox.ask(lambda: "answer", 10) == "answer" and told == ["division by zero"]
    outbox.close(10)


def test_what_a_lost_server_never_took_is_counted_at_the_end() -> None:
    def lost() -> None:
        raise OSError("gone")

    outbox = Outbox(lambda error: True, lambda error: None)
    outbox.put(lost)
    outbox.put(lambda: None)
    begun = time.monotonic()
    assert outbox.ask(lambda: 1, 0.05) is None
    assert outbox.close(0.1) == 3 and time.monotonic() - begun < 5
    assert not [thread for thread in threading.enumerate() if thread.name == "outbox" and thread.is_alive()]


@pytest.mark.slow
def test_a_long_backlog_is_waited_for_as_long_as_something_is_done() -> None:
    outbox = Outbox(lambda error: False, lambda error: None)
    for _ in range(8):
        outbox.put(lambda: time.sleep(0.2))
    assert outbox.ask(lambda: "answer", patience=0.8) == "answer"
    assert outbox.close(1) == 0
