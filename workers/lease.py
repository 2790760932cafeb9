"""One driver a study, wherever the others are: a lease in the result store, which all machines share.

A lease is a file ``leases/<study>/<generation>.json`` that its holder writes again every few seconds. The highest
generation holds. To take over, the next generation is written where none may be yet, so of many drivers one wins.
Whether a holder lives is seen from its heart beating while one looks, not from clocks, which differ between machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from feature_store.errors import UserError
from feature_store.storage import Storage

BEAT = 5.0  # seconds between two heartbeats
PATIENCE = 30.0  # seconds without a heartbeat after which a holder is taken for dead


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        host, pid: of the driver, for people.
        home: the driver's own folder, by which it knows what itself left.
        beat: counts heartbeats; 0 once it has given the lease back.
    """

    host: str
    pid: int
    home: str
    beat: int = 1

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def lease(
    storage: Storage,
    name: str,
    home: str,
    *,
    what: str = "this sweep",
    own_is_dead: bool = False,
    wait: Callable[[Holder], None] = lambda holder: None,
    beat: float = BEAT,
    patience: float = PATIENCE,
) -> Iterator[Lease]:
    """Hold a name for as long as the block lasts.

    Args:
        storage: that all drivers share.
        name: of the study.
        home: this driver's folder.
        what: is done under the lease, for messages.
        own_is_dead: a holder on this machine with this `home` is known to have ended, and is not waited for.
        wait: told of a holder whose heart has not been seen beating yet, before it is watched.
        beat: seconds between heartbeats.
        patience: seconds of watching after which a silent holder is taken for dead.

    Raises:
        UserError: another driver lives.
    """
    me = Holder(socket.gethostname(), os.getpid(), home)
    while True:
        generation, holder = _highest(storage, name)
        if holder is not None and holder.beat and not (own_is_dead and (holder.host, holder.home) == (me.host, home)):
            wait(holder)
            _watch(storage, name, what, generation, holder, beat, patience)
        if storage.write_if_absent(_key(name, generation + 1), _text(me)):
            if _highest(storage, name)[0] == generation + 1:
                break
            storage.delete(_key(name, generation + 1))  # others have come and gone since this driver looked
    for old in storage.list(f"leases/{name}"):
        if _generation(old) <= generation:
            storage.delete(old)
    held = Lease(storage, name, generation + 1, me, beat)
    try:
        yield held
    finally:
        held.give_back()


class Lease:
    """A lease that is held, and its heartbeat.

    Attributes:
        taken_by: another driver that took over, because this one's heart had stood still for too long.
    """

    def __init__(self, storage: Storage, name: str, generation: int, holder: Holder, beat: float) -> None:
        self.storage, self.name, self.generation, self.holder = storage, name, generation, holder
        self.taken_by: Holder | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(beat,), name="lease", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        """Stop, and let the next driver begin without a wait."""
        self._ended.set()
        self._thread.join()
        if self.taken_by is None:
            with contextlib.suppress(Exception):  # a lost server: the next driver watches for a heartbeat
                self._write(replace(self.holder, beat=0))

    def _live(self, beat: float) -> None:
        while not self._ended.wait(beat):
            try:
                generation, other = _highest(self.storage, self.name)
                if generation > self.generation:
                    self.taken_by = other
                    return
                self.holder = replace(self.holder, beat=self.holder.beat + 1)
                self._write(self.holder)
            except Exception:  # a server that is lost for a while, a full disk: the next beat tries again
                continue

    def _write(self, holder: Holder) -> None:
        self.storage.write(_key(self.name, self.generation), _text(holder))


def _watch(
    storage: Storage, name: str, what: str, generation: int, holder: Holder, beat: float, patience: float
) -> None:
    """Look at a holder until its heart has stood still for `patience` seconds, or another generation is there.

    Raises:
        UserError: it beats.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(min(beat, patience) / 5)
        now, seen = _highest(storage, name)
        if now != generation or seen is None or not seen.beat:
            return
        if seen.beat != holder.beat:
            raise UserError(f"another driver is running {what}: {holder}", where=name, hint="wait for it, or stop it")


def _highest(storage: Storage, name: str) -> tuple[int, Holder | None]:
    """The generation that holds, and its holder; 0 and None where nobody ever held it."""
    keys = storage.list(f"leases/{name}")
    if not keys:
        return 0, None
    newest = max(keys, key=_generation)
    try:
        return _generation(newest), Holder(**json.loads(storage.read(newest)))
    except FileNotFoundError:  # its successor has just cleared it away
        return _highest(storage, name)


def _key(name: str, generation: int) -> str:
    return f"leases/{name}/{generation:08d}.json"


def _generation(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))


def _text(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
