"""What every storage does, whatever it lies on: run on a folder and on a real S3 server."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from feature_store.storage import Storage, open_storage

WRITERS, TURNS = 8, 5


class StorageContract:
    """To be inherited where a fixture `place` gives the address of an empty storage."""

    @pytest.fixture
    def storage(self, place: str) -> Storage:
        return open_storage(place)

    def test_reads_what_was_written(self, storage: Storage) -> None:
        storage.write("a/b.bin", b"one")
        storage.write("a/b.bin", b"\x00two")
        assert storage.read("a/b.bin") == b"\x00two"
        assert storage.exists("a/b.bin")

    def test_names_a_missing_key(self, storage: Storage, place: str) -> None:
        with pytest.raises(FileNotFoundError, match=f"{place}/a/b"):
            storage.read("a/b")
        assert not storage.exists("a/b")
        assert storage.list("a") == []
        storage.delete("a/b")

    def test_a_folder_is_no_key(self, storage: Storage) -> None:
        storage.write("a/b", b"")
        assert not storage.exists("a")

    def test_writes_once_if_absent(self, storage: Storage) -> None:
        assert storage.write_if_absent("a/b", b"first")
        assert not storage.write_if_absent("a/b", b"second")
        assert storage.read("a/b") == b"first"
        storage.delete("a/b")
        assert storage.write_if_absent("a/b", b"third")

    def test_lists_a_folder_sorted_and_nothing_beside_it(self, storage: Storage) -> None:
        for key in ("a/2", "a/10", "a/c/1", "ab/3", "b"):
            storage.write(key, b"")
        assert storage.list("a") == ["a/10", "a/2", "a/c/1"]
        assert storage.list("") == ["a/10", "a/2", "a/c/1", "ab/3", "b"]

    def test_of_eight_writers_exactly_one_wins(self, place: str, storage: Storage) -> None:
        context = multiprocessing.get_context("fork")
        barrier, wins = context.Barrier(WRITERS), context.Queue()
        writers = [context.Process(target=_claim, args=(place, barrier, wins)) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        won = dict(wins.get(timeout=60) for _ in range(TURNS))
        for writer in writers:
            writer.join()
        assert wins.empty()
        assert storage.list("") == [f"turn/{turn}" for turn in range(TURNS)]
        assert {turn: int(storage.read(f"turn/{turn}")) for turn in range(TURNS)} == won


def _claim(place: str, barrier, wins) -> None:
    storage = open_storage(place)
    for turn in range(TURNS):
        barrier.wait()
        if storage.write_if_absent(f"turn/{turn}", str(os.getpid()).encode()):
            wins.put((turn, os.getpid()))
