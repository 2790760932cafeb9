"""The Ray cluster: joining one, starting one, and knowing whether what is asked for fits."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from feature_store.counted import counted
from feature_store.errors import UserError, printable
from orchestrator.execution.gpu_sharing import SHARES, Slot
from orchestrator.execution.surroundings import ray_folder
from search_spaces.schema import Resources

# Trial processes that start at once on few cores take longer than the minute after which Ray starts others instead.
REGISTER_SECONDS = "600"


@dataclass(frozen=True)
class Cluster:
    """What the cluster has in all."""

    nodes: int
    cpus: float
    gpus: float

    @classmethod
    def now(cls) -> Cluster:
        """As it is at this moment; nodes may join and leave."""
        totals = ray.cluster_resources()
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        return cls(nodes, totals.get("CPU", 0.0), totals.get("GPU", 0.0))

    def check(self, resources: Resources) -> None:
        """Refuse what would otherwise wait silently for ever.

        Raises:
            UserError: a fold run asks for more than the cluster has.
        """
        slot = Slot.of(resources)
        for name, asked, there in (("GPU", slot.gpus, self.gpus), ("CPU", slot.cpus, self.cpus)):
            if asked > there:
                raise UserError(
                    f"a fold run asks for {counted(asked, name)}, the cluster has {there:g}",
                    where=f"resources.{name.lower()}s",
                    hint=f"lower it (--set resources.{name.lower()}s={int(there)}) or join a larger cluster",
                )

    def slots(self, slot: Slot) -> int:
        """How many of them fit at once."""
        fits = [self.cpus / slot.cpus]
        if slot.gpus:
            fits.append(self.gpus / slot.gpus)
        return max(1, int(min(fits)))

    def trials(self, resources: Resources) -> int:
        """How many trials may run at once: as many as asked for, or as find room when packed as closely as can be."""
        return resources.concurrent_trials or self.slots(Slot.of(resources, SHARES[0]))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within it, SIGTERM (`ray job stop`, a pod's end) ends the driver as Ctrl-C does: it closes what it has open.

    To be entered after `connect`: joining a cluster, Ray puts its own handler in place, which aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def connect() -> Cluster:
    """Join the cluster that the environment names (`RAY_ADDRESS`, or a Ray job's), or start one on this machine.

    Raises:
        UserError: the command names a file that is not UTF-8, which Ray cannot pass on, or no folder is short enough
            for the sockets of an own cluster.
    """
    if not ray.is_initialized():
        for word in (*sys.argv, str(Path.cwd())):
            if any("\ud800" <= one <= "\udfff" for one in word):
                hint = "rename it; `features build` takes it with --workers 0"
                raise UserError("is no UTF-8, and Ray takes no such name", where=printable(word), hint=hint)
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_worker_register_timeout_seconds", REGISTER_SECONDS)
            folder = ray_folder()
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=None if folder is None else str(folder),
            )
    return Cluster.now()
