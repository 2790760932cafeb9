"""Features as processes map them: one array a feature and content in a node's cache, and what is there too long."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from feature_store.disk import disk_errors
from feature_store.errors import UserError

SCALARS = ".scalars.npy"
PARTIAL = ".partial"
SUFFIXES = (".npy", ".json", SCALARS, PARTIAL)
"""Of an array's files: its values, its cycle ids, its scalars, and values that are still being laid out."""

_held: dict[Path, int] = {}  # file descriptors whose shared locks say that this process has an array mapped


@dataclass(frozen=True)
class Cached:
    """A feature in the cache.

    Attributes:
        name: ``<feature_id>-<content hash>``.
        bytes: of all its files.
        used: when a process mapped it last, in seconds since 1970.
        state: in use: a process has it mapped; recent: used lately.
    """

    name: str
    bytes: int
    used: float
    state: Literal["removed", "in use", "recent"]


def hold(array: Path, lay_out: Callable[[], None]) -> None:
    """Keep an array from being removed for as long as this process lives, and have it laid out if it is not there.

    Of several processes one lays it out, and the others wait for it.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with disk_errors(
        array, "free some space, or name another folder in LUNGTUNE_CACHE, and run the same command again"
    ):
        array.parent.mkdir(parents=True, exist_ok=True)
        if array not in _held:
            _held[array] = _open(array, "used")
            fcntl.flock(_held[array], fcntl.LOCK_SH)
        if not array.exists():
            with _locked(array, "lock", fcntl.LOCK_EX):
                if not array.exists():
                    try:
                        lay_out()
                    except (OSError, UserError):  # a half array would keep a full disk full
                        array.with_suffix(PARTIAL).unlink(missing_ok=True)
                        raise
    with contextlib.suppress(PermissionError):  # another user's, whose own processes note their use
        os.utime(_held[array])


def new_array(path: Path, dtype: str, shape: tuple[int, ...]) -> np.memmap:
    """An array to be filled, mapped from a file, whose room on the disk is taken at once.

    A mapped file has holes where nothing was written: on a full disk, filling one ends the process by a signal.

    Raises:
        OSError: the disk has no room for it.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))
    return array


def clean(folder: Path, unused_since: float) -> list[Cached]:
    """Remove the arrays that no process has mapped, and none has since a time in seconds since 1970.

    What is removed is laid out again from the store when a training wants it.
    """
    found = []
    for name in sorted({_name(path) for path in folder.glob("*") if path.name.endswith(SUFFIXES)}):
        array = folder / f"{name}.npy"
        files = [path for suffix in SUFFIXES if (path := array.with_name(name + suffix)).exists()]
        size, used = sum(path.stat().st_size for path in files), _last_use(array, files)
        state: Literal["removed", "in use", "recent"] = "recent"
        if used <= unused_since:
            try:
                with _locked(array, "used", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    for path in files:
                        path.unlink()
                state = "removed"
            except BlockingIOError:
                state = "in use"
        found.append(Cached(name, size, used, state))
    return found


def _last_use(array: Path, files: list[Path]) -> float:
    mark = _mark(array, "used")
    return max(path.stat().st_mtime for path in ([mark] if mark.exists() else files))


def _name(path: Path) -> str:
    return path.name.removesuffix(next(suffix for suffix in reversed(SUFFIXES) if path.name.endswith(suffix)))


def _mark(array: Path, kind: str) -> Path:
    return array.with_name(f".{array.stem}.{kind}")


def _open(array: Path, kind: str) -> int:
    """A lock needs no more than the right to read, so that one user can map what another has laid out."""
    return os.open(_mark(array, kind), os.O_RDONLY | os.O_CREAT, 0o666)


@contextlib.contextmanager
def _locked(array: Path, kind: str, how: int) -> Iterator[None]:
    lock = _open(array, kind)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)
