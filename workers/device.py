"""What depends on the device: where features live, mixed precision, memory."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from workers.data import FoldData


class Rows:
    """One side's features and labels, gathered by position.

    On a GPU the side's features are moved there once; on the CPU batches are gathered from the shared mapping.
    """

    def __init__(self, data: FoldData, side: str, device: torch.device) -> None:
        rows = getattr(data, side)
        self.device = device
        self.positions = torch.arange(len(rows))
        self.labels = torch.from_numpy(data.labels[rows]).to(device)
        if device.type == "cpu":
            with warnings.catch_warnings():  # the mapping is read-only, and nothing here writes to it
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                self.values, self.rows = torch.from_numpy(data.values), torch.from_numpy(rows)
        else:
            self.values, self.rows = torch.from_numpy(data.values[rows]).to(device), self.positions.to(device)

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[batch, 1, frames, bins]`` float32 and labels ``[batch]``."""
        positions = positions.to(self.device)
        values = self.values.index_select(0, self.rows.index_select(0, positions))
        return values.unsqueeze(1).float(), self.labels.index_select(0, positions)


def autocast(precision: str, device: torch.device) -> Callable[[], contextlib.AbstractContextManager]:
    """What to wrap a forward pass in: bfloat16 on a GPU, or where it is asked for; else nothing."""
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext


def peak_bytes(device: torch.device) -> int:
    """Most memory held so far: the device's, or the process' on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
