"""What really happened to fold runs, event by event, beside the results: the store alone cannot tell a second training.

Each event is one small file under ``<results>/audit/<run>/``, so that any number of workers on any nodes write without
waiting for each other, and a kill leaves at most one event out.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from feature_store.storage import Storage, open_storage

FOLDER = "audit"
Event = Literal["begun", "test_read", "trained", "published", "lost"]
"""`begun`: training starts or goes on; `test_read`: the test side is read next, with the epoch and why; `trained`: the
training reached its end; `published`: its result is the result; `lost`: another worker had published the same fold run
before."""


@dataclass(frozen=True)
class Entry:
    """One event of one fold run."""

    run: str
    event: Event
    at: float
    host: str
    pid: int
    facts: dict[str, Any]


class AuditLog:
    """The events of a result store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def open(cls, results: str) -> AuditLog:
        """The log of the result store at a URI."""
        return cls(open_storage(results))

    def note(self, run: str, event: Event, **facts: Any) -> None:
        """Write an event down.

        Args:
            run: hash of the fold run.
            event: what happened.
            facts: anything plain that belongs to it: whether it went on from a checkpoint, why the test side is read.
        """
        now = time.time()
        content = {"event": event, "at": now, "host": socket.gethostname(), "pid": os.getpid(), "facts": facts}
        name = f"{now:017.6f}-{uuid.uuid4().hex[:8]}-{event}.json"
        self.storage.write(f"{FOLDER}/{run}/{name}", json.dumps(content).encode())

    def of(self, run: str) -> list[Entry]:
        """A fold run's events, the first first."""
        return list(self._read(f"{FOLDER}/{run}"))

    def names(self, run: str = "") -> list[tuple[str, Event, float]]:
        """Fold run, event and time of all events, or of one run's, by their names alone: no file is read."""
        found = []
        for key in self.storage.list(f"{FOLDER}/{run}".rstrip("/")):
            _, of, name = key.split("/")
            at, _, event = name.removesuffix(".json").split("-")
            found.append((of, cast(Event, event), float(at)))
        return found

    def entries(self) -> list[Entry]:
        """All events, by fold run, the first first."""
        return list(self._read(FOLDER))

    def _read(self, folder: str) -> Iterator[Entry]:
        for key in self.storage.list(folder):
            run = key.split("/")[1]
            yield Entry(run, **json.loads(self.storage.read(key)))
