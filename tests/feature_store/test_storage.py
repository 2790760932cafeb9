"""A storage on a folder: the contract of every storage, and what a kill or a failed write leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from feature_store.errors import UserError
from feature_store.storage import LocalStorage, S3Storage, open_storage
from tests.support.storage_contract import StorageContract


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestFolder(StorageContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "place")


def test_leaves_no_temporary_files(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"1")
    storage.write_if_absent("b", b"1")
    storage.write_if_absent("b", b"2")
    assert files_of(tmp_path) == ["a", "b"]


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("taken/inside", b"")
    with pytest.raises(OSError):
        storage.write("taken", b"a file where a folder is")
    assert files_of(tmp_path) == ["taken/inside"]


def _write_for_ever(root: str) -> None:
    storage = open_storage(root)
    for turn in range(10**9):
        storage.write("key", bytes([turn % 256]) * 500_000)


def test_a_reader_never_sees_half_a_write_nor_does_a_kill_leave_one(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(str(tmp_path),))
    writer.start()
    storage = LocalStorage(tmp_path)
    seen: set[int] = set()
    until = time.monotonic() + 10
    while len(seen) < 20 and time.monotonic() < until:
        if storage.exists("key"):
            content = storage.read("key")
            assert content == content[:1] * 500_000
            seen.add(content[0])
    assert writer.pid
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert len(seen) == 20
    content = storage.read("key")
    assert content == content[:1] * 500_000
    assert [key for key in storage.list("") if not key.startswith(".")] == ["key"]


def test_hidden_leftovers_of_a_killed_writer_are_not_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/key", b"whole")
    (tmp_path / "a" / ".key.0123").write_bytes(b"ha")
    assert storage.list("") == ["a/key"]


def test_names_its_places(tmp_path: Path) -> None:
    assert open_storage(f"file://{tmp_path}").local_path("a/b") == tmp_path / "a" / "b"
    assert open_storage(str(tmp_path)).uri("a") == str(tmp_path / "a")


@pytest.mark.slow
def test_reads_an_s3_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    storage = open_storage("s3://bucket/some/prefix/")
    assert isinstance(storage, S3Storage)
    assert storage.uri("a/b") == "s3://bucket/some/prefix/a/b"
    assert storage.local_path("a/b") is None


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "s3://", "s3:///x", "s4://bucket"])
def test_another_kind_of_address_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match=r"s3://bucket/prefix"):
        open_storage(uri)
