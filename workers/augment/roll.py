"""Circular rolling: a cycle that begins at another of its frames (CycleGuardian)."""

from __future__ import annotations

import torch
from torch import Tensor


class Roll:
    """Rolls the frames of some cycles by a uniformly drawn number, what leaves at the end coming in at the front.

    CycleGuardian rolls the waveform before its transform. Rolling frames is the same for whole hops, but for the frames
    around the seam and the ends, and needs no transform at each step.

    Args:
        probability: of a cycle being rolled.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A rolled copy of a batch ``[batch, channels, frames, bins]``; all maps of a cycle move alike."""
        batch, channels, frames, bins = x.shape
        draws = torch.rand(batch, 2, generator=generator, dtype=torch.float64)
        shift = ((draws[:, 0] < self.probability) * draws[:, 1] * frames).long()
        source = (torch.arange(frames) - shift[:, None]) % frames
        rows = source.to(x.device, non_blocking=True)[:, None, :, None].expand(batch, channels, frames, bins)
        return x.gather(2, rows)
