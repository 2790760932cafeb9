"""Fold runs as Ray tasks: each asks the result store first, and says in plain data how it ended."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass
from typing import Literal

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from feature_store.errors import UserError
from orchestrator.execution.gpu_sharing import Slot
from workers.fold import FoldRun, Site, run_fold

RETRIES = 3
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENOMEM}


@dataclass(frozen=True)
class Outcome:
    """How a fold run ended.

    Attributes:
        hash: name of the result, or None where there is none.
        error: what the user has to know, or None.
        detail: the traceback, for a fault that is not the user's input.
        fault: whose it is: the config's, the machine's (worth another attempt), or the device's too small memory.
    """

    hash: str | None
    error: str | None = None
    detail: str = ""
    fault: Literal["config", "machine", "memory"] = "config"


@ray.remote(max_retries=RETRIES)  # Ray retries a lost worker or node, never an exception of the code
def _run_fold(run: FoldRun, site: Site, threads: int, share: float) -> Outcome:
    try:
        _limit_threads(threads)
        _limit_memory(share)
        return Outcome(hash=run_fold(run, site).hash)
    except UserError as error:
        return Outcome(hash=None, error=str(error))
    except Exception as error:  # its own fold fails; the sweep goes on and shows it
        told = f"{type(error).__name__}: {error}"
        return Outcome(hash=None, error=told, detail=traceback.format_exc(), fault=fault_of(error))


def submit(run: FoldRun, site: Site, slot: Slot) -> ray.ObjectRef:
    """Start a fold run somewhere on the cluster; the reference gives its `Outcome`.

    Args:
        run, site: what and where.
        slot: that it gets.

    It is kept out of the caller's placement group: a trial's own bundle is almost empty.
    """
    return _run_fold.options(
        num_cpus=slot.cpus,
        num_gpus=slot.gpus,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=None),  # type: ignore[arg-type]
    ).remote(run, site, max(1, int(slot.cpus)), slot.gpus)


def outcome(reference: ray.ObjectRef) -> Outcome:
    """Wait for a fold run; a machine's fault that outlived its retries is an outcome too."""
    try:
        return ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        told = f"lost after {RETRIES} retries: {type(error).__name__}"
        return Outcome(hash=None, error=told, detail=str(error), fault="machine")


def fault_of(error: Exception) -> Literal["config", "machine", "memory"]:
    """Whether another attempt could help, and which."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":  # torch's, named so that it need not be imported
        return "memory"
    module = type(error).__module__
    lost = isinstance(error, ConnectionError | TimeoutError) or module.startswith(("botocore", "urllib3"))
    if lost or (isinstance(error, OSError) and error.errno in MACHINE):
        return "machine"
    return "config"


def _limit_threads(threads: int) -> None:
    """As many threads as the run was given cores, so that runs side by side do not fight over them."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _limit_memory(share: float) -> None:
    """Of a shared GPU no more than the share: a run that needs more ends itself, not the ones beside it."""
    import torch

    if torch.cuda.is_available():  # the process may have run another share before
        torch.cuda.set_per_process_memory_fraction(share if 0 < share < 1 else 1.0)
