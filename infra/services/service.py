"""What a service is to the one that starts it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 3.0  # seconds that a service which is up may take to answer


@dataclass(frozen=True)
class Service:
    """One program in the background.

    Attributes:
        name: of its pid file and log, and in `ports.SERVICE_PORTS`.
        where: what a reader may want to know: its address.
        command: program and arguments.
        environment: all of its variables.
        folder: its working directory.
        missing: what it still lacks to be used; empty once it can be.
        prepare: done before every start.
        after: services that must be usable before it starts, and with which it starts again.
        user: the system's user that runs it, if it is another.
    """

    name: str
    where: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    missing: Callable[[], str]
    prepare: Callable[[], None] = field(default=lambda: None)
    after: tuple[str, ...] = ()
    user: str | None = None


def http(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; status 0 and the reason where there is none."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(headers or {})), timeout=PATIENCE
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(getattr(error, "reason", error)).encode()
