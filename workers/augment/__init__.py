"""Augmentation of batches on the device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from workers.augment.spec_augment import POLICIES, SpecAugment
from workers.config import AugmentConfig

__all__ = ["Augment", "build_augment"]


class Augment(Protocol):
    """Turns a training batch into another one, and never writes into the one given."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The augmented batch ``[batch, 1, frames, bins]``; all draws come from the CPU generator."""
        ...


def build_augment(config: AugmentConfig, shape: tuple[int, ...]) -> Augment:
    """The augmentation of a config.

    Args:
        config: which, its gate, and how masks are filled.
        shape: of one feature, ending in (frames, bins).
    """
    if config.policy == "none":
        return unchanged
    return SpecAugment(POLICIES[config.policy].scaled(*shape[-2:]), fill=config.fill, gate=config.gate)


def unchanged(x: Tensor, generator: torch.Generator) -> Tensor:
    """The policy ``none``: the batch itself, and nothing drawn."""
    return x
