"""What a model is fed: maps of a batch of cycles, and the numbers beside them where the feature has any."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class WithScalars(NamedTuple):
    """Inputs of a feature with scalars.

    Attributes:
        values: ``[batch, channels, frames, bins]``.
        scalars: ``[batch, scalars]``.
    """

    values: Tensor
    scalars: Tensor


class WithShares(NamedTuple):
    """Inputs of a model that has to know where the padding begins.

    Attributes:
        values: ``[batch, channels, frames, bins]``.
        shares: ``[batch]`` share of the frames that is the cycle's own sound, above 0 and at most 1.
    """

    values: Tensor
    shares: Tensor


Inputs = Tensor | WithScalars | WithShares


def inputs_of(values: Tensor, scalars: Tensor | None = None, shares: Tensor | None = None) -> Inputs:
    """A batch as models take it, float32.

    Args:
        values: ``[batch, frames, bins]``, or ``[batch, channels, frames, bins]``.
        scalars: ``[batch, scalars]`` of a feature that has them.
        shares: ``[batch]`` for a model that asks for them.
    """
    maps = (values.unsqueeze(1) if values.dim() == 3 else values).float()
    if shares is not None:
        return WithShares(maps, shares.float())
    return maps if scalars is None else WithScalars(maps, scalars.float())
