"""Optuna's journal as lungtune keeps it: whole lines only, whatever killed its writer, and never another file."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from feature_store.counted import counted
from feature_store.errors import UserError

LINE_START = b'{"op_code":'  # how Optuna begins every line
AWAY = "move it away (finished fold runs are kept in the result store), or set LUNGTUNE_OPTUNA to another file"
log = logging.getLogger("lungtune.journal")


def open_journal(path: Path) -> JournalStorage:
    """A journal, made if it is not there. A torn line in it is moved to a file beside it, with a warning.

    Raises:
        UserError: the file is no journal of Optuna's; it is left as it is.
        OSError: it cannot be read or made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_other_file(path)
    if path.exists() and torn_lines(path):
        with _lock(path):
            _mend(path)
    try:
        return JournalStorage(_WholeLines(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # lines of JSON that Optuna cannot replay
        what = f"is a journal that Optuna cannot read: {type(error).__name__}: {error}"
        raise UserError(what, where=str(path), hint=AWAY) from error


def refuse_other_file(path: Path) -> None:
    """Refuse to write into what is no journal.

    Raises:
        UserError: there is something else of that name.
    """
    if path.is_dir():
        raise UserError("is a folder, not Optuna's journal", where=str(path), hint="set LUNGTUNE_OPTUNA to a file")
    if not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline()
    torn = not first.endswith(b"\n") and (first.startswith(LINE_START) or LINE_START.startswith(first))
    if first.strip(b"\0") and not torn and not (first.endswith(b"\n") and _salvage(first) is not None):
        raise UserError("is no journal of Optuna's", where=str(path), hint=AWAY)


def torn_lines(path: Path) -> bool:
    """Whether any line of a journal is not whole."""
    with path.open("rb") as file:
        return any(_salvage(line) != line for line in file)


class _KernelLock:
    """A lock on a file beside the journal, which the kernel gives back when its holder is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f".{path.name}.flock")
        self.file: BinaryIO | None = None

    def acquire(self) -> bool:
        file = self.path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        self.file = file
        return True

    def release(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = _KernelLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _WholeLines(JournalFileBackend):
    """Appends whole lines only: never to a torn one, and none is left torn by a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        path = self.path
        text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs).encode()
        with _lock(path):
            if not _ends_whole(path):
                _mend(path)
            with path.open("ab", buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    written = 0
                    while written < len(text):
                        written += file.write(text[written:]) or 0
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(before)
                    raise


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _salvage(line: bytes) -> bytes | None:
    """A line as far as it is whole: all of it, or what an older lungtune appended to a torn one; None if nothing is."""
    start = 0
    while line.endswith(b"\n") and (start := line.find(LINE_START, start)) >= 0:
        try:
            if isinstance(json.loads(line[start:]), dict):
                return line[start:]
        except ValueError:
            pass
        start += 1
    return None


def _mend(path: Path) -> None:
    """Move what is torn to ``<journal>.torn``; under the lock. Killed at any point, it can be done again."""
    kept, torn = [], []
    for line in io.BytesIO(path.read_bytes()):
        whole = _salvage(line) or b""
        kept.append(whole)
        if rest := line[: len(line) - len(whole)]:
            torn.append(rest.rstrip(b"\n") + b"\n")
    if not torn:
        return
    beside, new = path.with_name(f"{path.name}.torn"), path.with_name(f".{path.name}.{os.getpid()}.new")
    with beside.open("ab") as file:
        file.writelines(torn)
        file.flush()
        os.fsync(file.fileno())
    try:
        with new.open("wb") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    log.warning(
        "%s: %s, left by a kill or a full disk, moved to %s; trials that it cuts off are asked for again",
        path,
        counted(len(torn), "torn line"),
        beside,
    )
