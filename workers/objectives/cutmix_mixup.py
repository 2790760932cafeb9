"""CutMix (Yun et al., 2019) and Mixup (Zhang et al., 2018) in turns, with soft labels (docs/specification.md, 5.5)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.config.objectives import CutMixMixupConfig
from workers.inputs import Inputs, WithScalars
from workers.objectives.base import Loss, Objective, full_precision
from workers.objectives.patch_mix import draw_lambda


def build(config: CutMixMixupConfig, feature_dim: int, class_counts: np.ndarray) -> CutMixMixup:
    """The objective of a config."""
    return CutMixMixup(config, len(class_counts))


class CutMixMixup(Objective):
    """Each batch is mixed in one way, drawn anew: by CutMix, by Mixup, or not at all.

    Nothing is mixed in the first `plain_epochs` epochs, counted from 1. With two classes the soft cross entropy is the
    binary cross entropy of the logits' difference.
    """

    def __init__(self, config: CutMixMixupConfig, classes: int) -> None:
        super().__init__()
        self.config, self.classes, self.mixes = config, classes, config.plain_epochs == 0

    def begin_epoch(self, epoch: int) -> None:
        self.mixes = epoch > self.config.plain_epochs

    def forward(self, model: nn.Module, x: Inputs, y: Tensor, generator: torch.Generator) -> Loss:
        labels = F.one_hot(y, self.classes).float()
        if self.mixes:
            x, labels = self.mix(x, labels, generator)
        logits = full_precision(model(x))
        loss = F.cross_entropy(logits, labels)
        return Loss(loss, {"ce": loss.detach()}, logits.detach())

    @torch.compiler.disable  # draws on the CPU are not part of a compiled step
    def mix(self, x: Inputs, labels: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """A batch mixed with itself in another order, and its labels ``[batch, classes]``; nothing is written to."""
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        if share < self.config.cutmix_prob:
            return self._cut(x, labels, generator)
        if share < self.config.cutmix_prob + self.config.mixup_prob:
            return self._blend(x, labels, generator)
        return x, labels

    def _cut(self, x: Inputs, labels: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """One box for the whole batch, from the partner; lambda is the share of the map that is left outside of it."""
        values = x if isinstance(x, Tensor) else x.values
        frames, bins = values.shape[-2:]
        lam = draw_lambda(self.config.cutmix_alpha, generator)
        index = torch.randperm(len(values), generator=generator).to(values.device)
        (top, bottom), (left, right) = (_side(size, math.sqrt(1 - lam), generator) for size in (frames, bins))
        pasted = values.clone()
        pasted[..., top:bottom, left:right] = values[index][..., top:bottom, left:right]
        lam = 1 - (bottom - top) * (right - left) / (frames * bins)
        if not isinstance(x, WithScalars):
            return pasted, _between(labels, index, lam)
        scalars = x.scalars if self.config.cutmix_scalars == "seed_compat" else _between(x.scalars, index, lam)
        return WithScalars(pasted, scalars), _between(labels, index, lam)

    def _blend(self, x: Inputs, labels: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """All of a sample between it and its partner: maps, scalars and labels."""
        lam = draw_lambda(self.config.mixup_alpha, generator)
        index = torch.randperm(len(labels), generator=generator).to(labels.device)
        if isinstance(x, WithScalars):
            return WithScalars(*(_between(part, index, lam) for part in x)), _between(labels, index, lam)
        values = x if isinstance(x, Tensor) else x.values
        return _between(values, index, lam), _between(labels, index, lam)


def _between(values: Tensor, index: Tensor, lam: float) -> Tensor:
    return lam * values + (1 - lam) * values[index]


def _side(size: int, ratio: float, generator: torch.Generator) -> tuple[int, int]:
    """Where a box of this share of a side begins and ends: around a place drawn anywhere, cut off at the edges."""
    centre, length = int(torch.randint(size, (), generator=generator)), int(size * ratio)
    return max(0, centre - length // 2), min(size, centre + length // 2)
