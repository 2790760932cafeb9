"""One driver a study over machines: who lives is left alone, who is dead is replaced, and of many exactly one wins."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.storage import LocalStorage
from orchestrator.studies.study import Study
from tests.orchestrator.test_study import space
from workers import lease as module
from workers.lease import Holder, lease

QUICK = {"beat": 0.05, "patience": 0.6}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def leave(storage: LocalStorage, generation: int = 3, **changes: object) -> Holder:
    """What a driver on another machine that was killed leaves behind."""
    dead = replace(Holder("elsewhere", 7, "/their/home", beat=5), **changes)  # type: ignore[arg-type]
    storage.write(module._key("s", generation), module._text(dead))
    return dead


def test_a_living_driver_is_left_alone(storage: LocalStorage) -> None:
    with (
        lease(storage, "s", "/a", **QUICK),
        pytest.raises(UserError, match=r"another driver is running this sweep: process \d+ on"),
        lease(storage, "s", "/b", **QUICK),
    ):
        pass


@pytest.mark.slow
def test_a_dead_driver_is_replaced_after_it_was_watched(storage: LocalStorage) -> None:
    dead, told = leave(storage), []
    begun = time.monotonic()
    with lease(storage, "s", "/b", wait=told.append, **QUICK) as held:
        assert time.monotonic() - begun >= QUICK["patience"]
        assert (held.generation, told) == (4, [dead])
    assert storage.list("leases/s") == [module._key("s", 4)], "what came before is cleared away"


def test_a_lease_given_back_is_taken_at_once(storage: LocalStorage) -> None:
    for generation in (1, 2):
        with lease(storage, "s", "/a", beat=0.05, patience=60) as held:
            assert held.generation == generation


def test_what_this_driver_itself_left_is_not_waited_for(storage: LocalStorage) -> None:
    leave(storage, host=module.socket.gethostname(), home="/mine")
    with lease(storage, "s", "/mine", own_is_dead=True, beat=0.05, patience=60) as held:
        assert held.generation == 4


@pytest.mark.slow
def test_of_many_drivers_at_once_exactly_one_takes_over(storage: LocalStorage) -> None:
    leave(storage)
    taken, refused, done = [], [], threading.Event()

    def drive(home: str) -> None:
        try:
            with lease(storage, "s", home, **QUICK) as held:
                taken.append(held.generation)
                done.wait(10)
        except UserError:
            refused.append(home)

    threads = [threading.Thread(target=drive, args=(f"/{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(refused) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert (taken, len(refused)) == ([4], 5)


def test_a_driver_that_stood_still_learns_that_it_was_replaced(storage: LocalStorage) -> None:
    with lease(storage, "s", "/a", beat=0.05) as held:
        storage.write_if_absent(module._key("s", 2), module._text(Holder("elsewhere", 8, "/b")))
        until = time.monotonic() + 10
        while held.taken_by is None and time.monotonic() < until:
            time.sleep(0.02)
        assert str(held.taken_by) == "process 8 on elsewhere"
    assert json.loads(storage.read(module._key("s", 2)))["beat"] == 1, "the other's lease is not touched"


def test_a_slow_driver_does_not_revive_a_generation_that_is_over(storage: LocalStorage) -> None:
    """It looked before others came and went, and wins a place that nobody holds any more."""
    leave(storage, generation=3, beat=0)
    seen = module._highest(storage, "s")
    leave(storage, generation=5, beat=0)
    storage.delete(module._key("s", 3))
    looks = iter([seen])

    class Slow(LocalStorage):
        def list(self, prefix: str) -> list[str]:
            return [module._key("s", 3)] if next(looks, None) else super().list(prefix)

        def read(self, key: str) -> bytes:
            return module._text(seen[1]) if key == module._key("s", 3) and seen[1] else super().read(key)

    with lease(Slow(storage.root), "s", "/a", **QUICK) as held:
        assert held.generation == 6
    assert storage.list("leases/s") == [module._key("s", 6)]


@pytest.mark.slow
def test_a_study_is_refused_to_a_driver_with_another_home(tmp_path: Path) -> None:
    here = Settings.load(tmp_path / "here")
    there = replace(Settings.load(tmp_path / "there"), results=here.results, optuna=here.optuna)
    refused = pytest.raises(UserError, match="another driver is running this sweep")
    with Study.lease(space(), here, 5), refused, Study.lease(space(), there, 5):
        pass
    with Study.lease(space(), there, 5) as study:
        assert study.taken_by is None
