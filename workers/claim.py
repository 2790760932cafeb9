"""A claim on a fold run: of two programs that would train it at once, the second waits for the first's result.

On a folder it is a lock of the operating system, which ends with its process, however that ends. On S3 it is a lease
with a heartbeat (`workers.lease`), which others may take over half a minute after its holder died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from feature_store.errors import UserError
from feature_store.storage import Storage
from workers.lease import lease

FOLDER = ".claims"
LOOK = 0.5  # seconds between two looks at a lock that another program holds


@contextlib.contextmanager
def claim(
    storage: Storage,
    run: str,
    *,
    on_wait: Callable[[], None] = lambda: None,
    stop_waiting: Callable[[], bool] = lambda: False,
) -> Iterator[bool]:
    """Hold a fold run for as long as the block lasts.

    Args:
        storage: of the result store.
        run: hash of the fold run.
        on_wait: called once where another program holds it.
        stop_waiting: asked while waiting; true ends the wait without the claim.

    Yields:
        Whether it is held: False after a wait that `stop_waiting` ended.
    """
    place = storage.local_path(f"{FOLDER}/{run}.lock")
    if place is not None:
        lock = _locked(place, on_wait, stop_waiting)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                place.unlink(missing_ok=True)
                lock.close()
        return
    told = False
    while not stop_waiting():
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lease(storage, f"fold-{run}", "", what="this fold run"))
            except UserError:
                if not told:
                    told = True
                    on_wait()
                time.sleep(LOOK)
                continue
            yield True
            return
    yield False


def _locked(place: Path, on_wait: Callable[[], None], stop_waiting: Callable[[], bool]) -> IO[str] | None:
    """The open lock file; None where `stop_waiting` ended the wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        lock = place.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if not told:
                told = True
                on_wait()
            if stop_waiting():
                return None
            time.sleep(LOOK)
            continue
        if _is_at(place, lock):
            return lock
        lock.close()  # its holder has just removed it: a lock of a file that nobody else will find is none


def _is_at(place: Path, lock: IO[str]) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
