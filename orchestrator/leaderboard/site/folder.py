"""The board's folder as one thing: all new files are staged first, then put in place, the page last.

What an entry's page shows seldom changes, so the folder remembers by what each file was made (`site.json`): a nightly
build neither renders nor writes again what is there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from feature_store.errors import UserError
from feature_store.storage import LocalStorage, Storage, open_storage
from orchestrator.leaderboard.site.index import INDEX, index_text, leaves, plain_size, read_index

STAGE = ".build-"  # folder of a build under way
ABANDONED = 86_400.0  # seconds after which it must be what a killed build left
WRITERS = 8


class SiteFolder:
    """Gathers the files of one build; leaving the `with` block puts them in place, an error leaves the old board.

    Args:
        out: a folder, made if need be, or ``s3://bucket/prefix``. S3 has no rename: there the files are put one by one,
            the page last.

    Raises:
        UserError: the place cannot be written.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = str(out)
        with _explained(self.out):
            self.storage: Storage = open_storage(self.out)
            self.before = read_index(self.storage)
            self.after: dict[str, list[Any]] = {}
            self.staged: list[str] = []
            self.stage = self._stage()

    def _stage(self) -> Path:
        """A new folder for this build: beside the board, so that a file is put in place by a rename."""
        if not isinstance(self.storage, LocalStorage):
            return Path(tempfile.mkdtemp(prefix="lungtune-board-"))
        for left in self.storage.root.glob(f"{STAGE}*"):
            with contextlib.suppress(FileNotFoundError):  # another build has cleared it away
                if time.time() - left.stat().st_mtime > ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
        stage = self.storage.root / f"{STAGE}{uuid.uuid4().hex[:12]}"
        stage.mkdir(parents=True)
        return stage

    def put(self, name: str, content: bytes | str, *, made_of: str | None = None, uses: Sequence[str] = ()) -> None:
        """Take a file into the build; it is written only if its content is new.

        Args:
            name: path in the folder, with slashes.
            content: text is written as UTF-8.
            made_of: what `holds` will be asked for by the next build; the content's own hash if not given.
            uses: files that it cannot do without: where it stays, they stay.
        """
        data = content.encode() if isinstance(content, str) else content
        digest = made_of or hashlib.sha256(data).hexdigest()[:16]
        if made_of is None and self.holds(name, digest):
            return
        self.after[name] = [digest, len(data), *([list(uses)] if uses else [])]
        with _explained(self.out):
            path = self.stage / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.staged.append(name)

    def holds(self, name: str, made_of: str) -> bool:
        """Whether the folder has this file, made of the same, and all that it uses; they then stay."""
        known = self.before.get(name)
        if known is None or known[0] != made_of:
            return False
        needed = {name: known} | {used: self.before.get(used) for used in (known[2] if len(known) > 2 else ())}
        if not all(record is not None and self._lies(each, record[1]) for each, record in needed.items()):
            return False
        self.after |= {each: record for each, record in needed.items() if record is not None}
        return True

    def read(self, name: str) -> bytes:
        """A file that `holds` has found."""
        return self.storage.read(name)

    def has(self, name: str) -> bool:
        """Whether a file is part of this build already."""
        return name in self.after

    def _lies(self, name: str, size: int) -> bool:
        """Whether the file is there, whole. On S3 a file is put whole or not at all."""
        return self.storage.local_path(name) is None or plain_size(self.storage, name) == size

    def uri(self, name: str) -> str:
        """Where a file lies."""
        return self.storage.uri(name)

    def __enter__(self) -> SiteFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with _explained(self.out):
                    self._publish()
        finally:
            shutil.rmtree(self.stage, ignore_errors=True)

    def _publish(self) -> None:
        """Put the build in place: what pages need, then the pages in the order given, then away with what is stale."""
        remote = not isinstance(self.storage, LocalStorage)
        with ThreadPoolExecutor(WRITERS if remote else 1) as pool:
            list(pool.map(self._place, [name for name in self.staged if "/" in name]))
        for name in self.staged:
            if "/" not in name:
                self._place(name)
        self.storage.write(INDEX, index_text(self.after))
        for name in self.before.keys() - self.after.keys():
            if remote or plain_size(self.storage, name) is not None:
                self.storage.delete(name)

    def _place(self, name: str) -> None:
        path = self.storage.local_path(name)
        if path is None:
            self.storage.write(name, (self.stage / name).read_bytes())
            return
        if leaves(self.storage, name):
            hint = "put the files of the board into a folder of their own, without links in it"
            raise UserError("a link in the board's folder leads out of it", where=str(path.parent), hint=hint)
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.stage / name).replace(path)


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turns a failed write into words."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the leaderboard cannot be written: {error.strerror or error}",
            where=where,
            hint="give a folder that you may write to with --out; the board that is there stays as it is",
        ) from error
