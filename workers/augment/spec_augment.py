"""SpecAugment (Park et al., 2019) for whole batches on the device: time warp, frequency masks, then time masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

FRAMES, BINS = 798, 128  # the feature that most published widths are meant for


@dataclass(frozen=True)
class Policy:
    """Numbers and largest widths of masks.

    Attributes:
        frequency_width, time_width: a mask's width is floor(U(0, width)), in bins and in frames.
        frequency_masks, time_masks: masks a sample.
        probability: of a sample being touched at all.
        time_warp: largest displacement of a point in time, in frames; 0 does not warp.
        per_map: each map of a sample has masks of its own; else they share them.
        frames, bins: of the feature that the widths are meant for.
    """

    frequency_width: float
    frequency_masks: int
    time_width: float
    time_masks: int
    probability: float = 1.0
    time_warp: float = 0.0
    per_map: bool = False
    frames: int = FRAMES
    bins: int = BINS

    def scaled(self, frames: int, bins: int) -> Policy:
        """The policy for a feature of another size than it is meant for: masks keep their share of it."""
        share = frames / self.frames
        return replace(
            self,
            frequency_width=self.frequency_width * bins / self.bins,
            time_width=self.time_width * share,
            time_warp=self.time_warp * share,
            frames=frames,
            bins=bins,
        )


def _group_policy(frequency_width: float, time_width: float, time_masks: int) -> Policy:
    """One of CycleGuardian's, for 688 frames x 84 bins: half of the samples, each map with masks of its own."""
    return Policy(frequency_width, 2, time_width, time_masks, 0.5, per_map=True, frames=688, bins=84)


POLICIES = {
    "LB": Policy(frequency_width=27, frequency_masks=1, time_width=100, time_masks=1, time_warp=80),
    "LD": Policy(frequency_width=27, frequency_masks=2, time_width=100, time_masks=2, time_warp=80),
    "SM": Policy(frequency_width=15, frequency_masks=2, time_width=70, time_masks=2, probability=0.2, time_warp=40),
    "SS": Policy(frequency_width=27, frequency_masks=2, time_width=70, time_masks=2, probability=0.2, time_warp=40),
    "icbhi_sup": Policy(frequency_width=20, frequency_masks=2, time_width=50, time_masks=2),
    "icbhi_ast_sup": Policy(frequency_width=48, frequency_masks=2, time_width=160, time_masks=2),
    "group_sr22k": _group_policy(frequency_width=10, time_width=5, time_masks=10),
    "icbhi_group_cl": _group_policy(frequency_width=22, time_width=20, time_masks=2),
}
"""SpecAugment's four, as Patch-Mix has them (its p is a gate), Patch-Mix' own two, and CycleGuardian's."""


class Draws(NamedTuple):
    """What is random for a batch.

    Attributes:
        masks: ``[batch, bins + frames]``: 1 where a sample's bin, or frame, is masked.
        warp: points in time, and where they are moved to, ``[batch]`` each in frames; None without a time warp.
    """

    masks: Tensor
    warp: tuple[Tensor, Tensor] | None


class SpecAugment:
    """Warps time, then masks bands of bins and stretches of frames, drawn for each sample.

    Masks of one kind are filled with one value: the mean of the sample as it then is (so the time masks' mean is that
    of the frequency-masked spectrogram), or zero. The gate is a uniform draw, so that `probability` is what it says;
    with the gate ``seed_compat`` it is a standard normal draw, as in Patch-Mix's release, which touches 84.1 % of the
    samples where the policy says all, and 57.9 % where it says 20 %.
    """

    def __init__(
        self,
        policy: Policy,
        fill: Literal["mean", "zero"] = "mean",
        gate: Literal["uniform", "seed_compat"] = "uniform",
    ) -> None:
        self.policy, self.fill, self.gate = policy, fill, gate

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """An augmented copy of a batch.

        Args:
            x: ``[batch, channels, frames, bins]``, any floating type; it is not written to.
            generator: a CPU generator.
        """
        batch, channels, frames, bins = x.shape
        if self.policy.per_map and channels > 1:
            maps = self._masked(x.view(-1, 1, frames, bins), self.draw(batch, frames, bins, generator, maps=channels))
            return maps.view_as(x)
        return self._masked(x, self.draw(batch, frames, bins, generator))

    def _masked(self, x: Tensor, draws: Draws) -> Tensor:
        batch, _, frames, bins = x.shape
        if draws.warp is not None:
            x = warp_time(x, *draws.warp)
        masks = draws.masks.to(x.device, non_blocking=True)
        over_bins, over_frames = masks[:, :bins].view(batch, 1, 1, bins), masks[:, bins:].view(batch, 1, frames, 1)
        first, second = self._fills(x, over_bins)
        # fill * mask + x * (1 - mask), exact since the masks are 0 and 1; two passes over the memory
        masked = torch.addcmul((first * over_bins).to(x.dtype), x, (1 - over_bins).to(x.dtype))
        return torch.addcmul((second * over_frames).to(x.dtype), masked, (1 - over_frames).to(x.dtype), out=masked)

    def draw(self, batch: int, frames: int, bins: int, generator: torch.Generator, maps: int = 1) -> Draws:
        """All that is random for a batch, on the CPU, by one draw of uniform numbers.

        With several maps each has a row, and the rows of a sample are touched together or not at all.
        """
        policy = self.policy
        count = policy.frequency_masks + policy.time_masks
        draws = torch.rand(batch * maps, 2 * count + 3, generator=generator, dtype=torch.float64)
        widths, starts = draws[:, 1 : count + 1], draws[:, count + 1 : 2 * count + 1]
        open_ = self._gate(draws[::maps, :1]).repeat_interleave(maps, dim=0)
        n = policy.frequency_masks
        over_bins = _intervals(widths[:, :n] * policy.frequency_width, starts[:, :n], bins)
        over_frames = _intervals(widths[:, n:] * policy.time_width, starts[:, n:], frames)
        masks = (torch.cat([over_bins, over_frames], dim=1) & open_).float()
        return Draws(masks, self._warp(draws[:, -2:], open_[:, 0], frames))

    def _gate(self, uniform: Tensor) -> Tensor:
        """Whether a sample is touched, ``[batch, 1]`` bool."""
        if self.gate == "seed_compat":
            return torch.special.ndtri(uniform) <= self.policy.probability  # a normal draw by its inverse law
        return uniform <= self.policy.probability

    def _warp(self, uniform: Tensor, open_: Tensor, frames: int) -> tuple[Tensor, Tensor] | None:
        """Points in time and where they are moved to, ``[batch]`` each, in frames; equal where nothing is warped."""
        furthest = min(self.policy.time_warp, (frames - 1) / 2 - 1)  # a point must be able to move either way
        if furthest <= 0:
            return None
        point = furthest + uniform[:, 0] * (frames - 1 - 2 * furthest)
        moved = point + (2 * uniform[:, 1] - 1) * furthest * open_
        return point, moved

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


def warp_time(x: Tensor, point: Tensor, moved: Tensor) -> Tensor:
    """A batch with one point in time of each sample moved, the ends staying where they are.

    Between the three, time is stretched or squeezed evenly and frames are interpolated linearly. The order of frames is
    kept, which the spline of Patch-Mix's release does not ensure (docs/specification.md, 2.3); all bins move alike, as
    in SpecAugment.

    Args:
        x: ``[batch, 1, frames, bins]``.
        point, moved: ``[batch]`` frames, strictly between the first and the last.
    """
    frames = x.shape[2]
    last = frames - 1
    place = torch.arange(frames, dtype=point.dtype)
    point, moved = point[:, None], moved[:, None]
    source = torch.where(
        place <= moved, place * point / moved, last - (last - place) * (last - point) / (last - moved)
    ).clamp(0, last)
    below = source.floor().clamp(max=last - 1)
    share = (source - below).to(x.device, x.dtype)[:, None, :, None]
    rows = below.long().to(x.device)[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
    return torch.lerp(x.gather(2, rows), x.gather(2, rows + 1), share)
