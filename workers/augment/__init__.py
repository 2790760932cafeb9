"""Augmentation of batches on the device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from workers.augment.roll import Roll
from workers.augment.spec_augment import POLICIES, SpecAugment
from workers.config.training import AugmentConfig
from workers.inputs import Inputs, WithScalars, WithShares

__all__ = ["Augment", "augmented", "build_augment"]


class Augment(Protocol):
    """Turns a training batch into another one, and never writes into the one given."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The augmented batch ``[batch, channels, frames, bins]``; all draws come from the CPU generator."""
        ...


def build_augment(config: AugmentConfig, shape: tuple[int, ...]) -> Augment:
    """The augmentation of a config.

    Args:
        config: which, its gate, and how masks are filled.
        shape: of one feature, ending in (frames, bins).
    """
    masks: Augment = unchanged
    if config.policy != "none":
        masks = SpecAugment(POLICIES[config.policy].scaled(*shape[-2:]), fill=config.fill, gate=config.gate)
    if not config.roll:
        return masks
    roll = Roll(config.roll)
    return lambda x, generator: masks(roll(x, generator), generator)


def augmented(x: Inputs, augment: Augment, generator: torch.Generator) -> Inputs:
    """A batch with its maps augmented; what is beside them stays."""
    if isinstance(x, WithScalars | WithShares):
        return x._replace(values=augment(x.values, generator))
    return augment(x, generator)


def unchanged(x: Tensor, generator: torch.Generator) -> Tensor:
    """The policy ``none``: the batch itself, and nothing drawn."""
    return x
