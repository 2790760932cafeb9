"""SpecAugment (Park et al., 2019) for whole batches on the device: frequency masks, then time masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

FRAMES, BINS = 798, 128  # the feature that the published widths are meant for


@dataclass(frozen=True)
class Policy:
    """Numbers and largest widths of masks.

    Attributes:
        frequency_width, time_width: a mask's width is floor(U(0, width)), in bins and in frames.
        frequency_masks, time_masks: masks a sample.
        probability: of a sample being masked at all.
    """

    frequency_width: float
    frequency_masks: int
    time_width: float
    time_masks: int
    probability: float = 1.0

    def scaled(self, frames: int, bins: int) -> Policy:
        """The policy for a feature of another size than 798 x 128: masks keep their share of it."""
        return replace(
            self, frequency_width=self.frequency_width * bins / BINS, time_width=self.time_width * frames / FRAMES
        )


POLICIES = {
    "icbhi_sup": Policy(frequency_width=20, frequency_masks=2, time_width=50, time_masks=2),
    "icbhi_ast_sup": Policy(frequency_width=48, frequency_masks=2, time_width=160, time_masks=2),
}
"""The policies of Patch-Mix' training on ICBHI. Neither warps time."""


class SpecAugment:
    """Masks bands of bins and stretches of frames, drawn for each sample.

    Masks of one kind are filled with one value: the mean of the sample as it then is (so the time masks' mean is that
    of the frequency-masked spectrogram), or zero. The gate is a uniform draw, so that `probability` is what it says.
    """

    def __init__(self, policy: Policy, fill: Literal["mean", "zero"] = "mean") -> None:
        self.policy, self.fill = policy, fill

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A masked copy of a batch.

        Args:
            x: ``[batch, 1, frames, bins]``, any floating type; it is not written to.
            generator: a CPU generator.
        """
        batch, _, frames, bins = x.shape
        masks = self.draw(batch, frames, bins, generator).to(x.device, non_blocking=True)
        over_bins, over_frames = masks[:, :bins].view(batch, 1, 1, bins), masks[:, bins:].view(batch, 1, frames, 1)
        first, second = self._fills(x, over_bins)
        # fill * mask + x * (1 - mask), exact since the masks are 0 and 1; two passes over the memory
        masked = torch.addcmul((first * over_bins).to(x.dtype), x, (1 - over_bins).to(x.dtype))
        return torch.addcmul((second * over_frames).to(x.dtype), masked, (1 - over_frames).to(x.dtype), out=masked)

    def draw(self, batch: int, frames: int, bins: int, generator: torch.Generator) -> Tensor:
        """Masks ``[batch, bins + frames]``: 1 where a sample's bin, or frame, is masked. On the CPU, by one draw."""
        policy = self.policy
        count = policy.frequency_masks + policy.time_masks
        draws = torch.rand(batch, 2 * count + 1, generator=generator, dtype=torch.float64)
        gate, widths, starts = draws[:, :1] <= policy.probability, draws[:, 1 : count + 1], draws[:, count + 1 :]
        n = policy.frequency_masks
        over_bins = _intervals(widths[:, :n] * policy.frequency_width, starts[:, :n], bins)
        over_frames = _intervals(widths[:, n:] * policy.time_width, starts[:, n:], frames)
        return (torch.cat([over_bins, over_frames], dim=1) & gate).float()

    def _fills(self, x: Tensor, over_bins: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What fills frequency masks and time masks, ``[batch, 1, 1, 1]``, from one pass over the batch.

        The mean after the frequency masks follows from the bins' means: masked bins then have the first mean.
        """
        if self.fill == "zero":
            return 0.0, 0.0
        by_bin = x.mean(dim=2, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        first = by_bin.mean(dim=3, keepdim=True)
        return first, torch.where(over_bins > 0, first, by_bin).mean(dim=3, keepdim=True)


def _intervals(widths: Tensor, starts: Tensor, length: int) -> Tensor:
    """Union of each sample's masks, ``[batch, length]`` bool.

    Args:
        widths: ``[batch, masks]`` widths before rounding down.
        starts: ``[batch, masks]`` uniform in [0, 1): become a whole number in [0, length - width].
        length: bins or frames.
    """
    widths = widths.floor().clamp(max=length)
    starts = (starts * (length - widths + 1)).floor()
    place = torch.arange(length)
    inside = (place >= starts[..., None]) & (place < (starts + widths)[..., None])
    return inside.any(dim=1)
