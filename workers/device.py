"""What depends on the device: where features live, precision, compilation, determinism, memory."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from workers.augment.concatenate import Joined, join_frames
from workers.augment.splice import Spliced, gather_frames
from workers.data import FoldData
from workers.inputs import Inputs, inputs_of

COMPILER = "inductor"  # torch.compile's backend


class Rows:
    """One side's features and labels, gathered by position.

    On a GPU the side's features are moved there once; on the CPU batches are gathered from the shared mapping.

    Args:
        data: the fold.
        side: ``train``, ``validation`` or ``test``.
        device: where batches are wanted.
        joined: pairs of the side's cycles, or cycles made of their frames, that count as further positions, after the
            cycles.
    """

    def __init__(self, data: FoldData, side: str, device: torch.device, joined: Joined | Spliced | None = None) -> None:
        rows = getattr(data, side)
        self.device = device
        self.cycles = len(rows)
        labels = torch.from_numpy(data.labels[rows])
        self.labels = (labels if joined is None else torch.cat([labels, joined.labels])).to(device)
        self.positions = torch.arange(len(self.labels))
        self.joined = joined
        self.own_frames = torch.from_numpy(data.own_frames[rows]).to(device)
        if device.type == "cpu":
            with warnings.catch_warnings():  # the mapping is read-only, and nothing here writes to it
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                self.values, self.rows = torch.from_numpy(data.values), torch.from_numpy(rows)
        else:
            self.values = torch.from_numpy(data.values[rows]).to(device)
            self.rows = torch.arange(len(rows), device=device)
        self.versions = self.values.shape[1] if data.versioned else 1
        self.scalars = None if data.scalars is None else torch.from_numpy(data.scalars[rows]).to(device)
        self.shares = self.own_frames / data.values.shape[-2] if data.packed else None

    def take(self, positions: Tensor, generator: torch.Generator | None = None) -> tuple[Inputs, Tensor]:
        """Features ``[batch, channels or 1, frames, bins]`` float32, what is beside them, and labels ``[batch]``.

        Args:
            positions: ``[batch]``.
            generator: draws one of the stored versions of each cycle; without it, it is the cycle itself.
        """
        version = None
        if self.versions > 1 and generator is not None:
            version = torch.randint(self.versions, (len(positions),), generator=generator).to(self.device)
        made = (positions >= self.cycles).nonzero().squeeze(1)  # on the CPU, so that a device is not waited for
        further = positions[made] - self.cycles
        made, positions = made.to(self.device), positions.to(self.device)
        if not len(made) or self.joined is None:
            values = self._gather(positions, version)
        elif isinstance(self.joined, Spliced):
            values = self._with_spliced(self.joined, further, positions, made, version)
        else:
            values = self._with_pairs(self.joined, further, positions, made, version)
        scalars = None if self.scalars is None else self.scalars.index_select(0, positions)
        shares = None if self.shares is None else self.shares.index_select(0, positions)
        return inputs_of(values, scalars, shares), self.labels.index_select(0, positions)

    def _with_pairs(
        self, joined: Joined, pairs: Tensor, positions: Tensor, made: Tensor, version: Tensor | None
    ) -> Tensor:
        """`_gather`, with the second cycle of each of the `pairs`, which stand at `made`, joined to its first."""
        first, second = joined.pairs[pairs].to(self.device).unbind(1)
        values = self._gather(positions.index_copy(0, made, first), version)
        lengths = self.own_frames[first], self.own_frames[second]
        values[made] = join_frames(values[made], self._gather(second, None), *lengths)
        return values

    def _with_spliced(
        self, joined: Spliced, spliced: Tensor, positions: Tensor, made: Tensor, version: Tensor | None
    ) -> Tensor:
        """`_gather`, with the `spliced` cycles, which stand at `made`, put together of the frames of others."""
        values = self._gather(positions.clamp_max(self.cycles - 1), version)
        originals = self.values if self.versions == 1 else self.values[:, 0]
        sources, frames = (part[spliced].to(self.device) for part in (joined.cycles, joined.frames))
        values[made] = gather_frames(originals, self.rows[sources], frames)
        return values

    def _gather(self, positions: Tensor, version: Tensor | None) -> Tensor:
        """Stored values ``[batch, frames, bins]``, or with a channel axis before these, a copy."""
        rows = self.rows.index_select(0, positions)
        if self.versions == 1:
            return self.values.index_select(0, rows)
        return self.values[rows, 0 if version is None else version]


def autocast(precision: str, device: torch.device) -> Callable[[], contextlib.AbstractContextManager]:
    """What to wrap a forward pass in: bfloat16 on a GPU, or where it is asked for; else nothing."""
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext


def compiled(module: nn.Module, wanted: bool) -> Callable[..., Any]:
    """The module, compiled where it is wanted; random draws stay outside of the graphs."""
    return torch.compile(module, backend=COMPILER) if wanted else module


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Within it, torch uses only operations that give the same bits again, and raises where there is none."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may not be deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def peak_bytes(device: torch.device) -> int:
    """Most memory held so far: the device's, or the process' on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
