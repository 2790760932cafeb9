"""What this process inherits and Ray or HTTP clients trip over: proxies for this machine, a temporary folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from feature_store.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_SOCKET = 107  # bytes of a Unix socket's path (sun_path of 108, with its closing zero)
IN_SESSION = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.12")  # what Ray appends, bytes
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def reach_this_machine() -> None:
    """Keep proxies out of what goes to this machine: the local MLflow server, Ray's, SeaweedFS'."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [host.strip() for host in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")]
        if "*" not in known:
            os.environ[name] = ",".join(dict.fromkeys([*filter(None, known), *LOOPBACK]))


def ray_folder() -> Path | None:
    """Where Ray's own folder is to be, None for its default: the first whose sockets' paths are short enough.

    Raises:
        UserError: no folder is short enough and can be written.
    """
    default = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if _fits(default):
        return None
    for folder in SHORT_FOLDERS:
        if _fits(folder) and os.access(folder, os.W_OK | os.X_OK):
            private = Path(folder) / f"lungtune-{os.getuid()}"
            private.mkdir(mode=0o700, exist_ok=True)
            if private.stat().st_uid == os.getuid() and not private.is_symlink():
                private.chmod(0o700)
                return private / "ray"  # Ray opens its own folder to everybody
    what = f"is {len(os.fsencode(default))} bytes long: the paths of Ray's sockets in it exceed {LONGEST_SOCKET} bytes"
    raise UserError(what, where=default, hint=f"set RAY_TMPDIR to a folder of at most {_longest()} bytes")


def temporary_folders() -> Iterator[str]:
    """The folders that TMPDIR, RAY_TMPDIR and Python name."""
    named = (os.environ.get("TMPDIR"), os.environ.get("RAY_TMPDIR"), tempfile.gettempdir())
    yield from dict.fromkeys(folder for folder in named if folder)


def _longest() -> int:
    return LONGEST_SOCKET - IN_SESSION


def _fits(folder: str) -> bool:
    return len(os.fsencode(str(Path(folder).absolute()))) <= _longest()
