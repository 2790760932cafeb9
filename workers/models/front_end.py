"""The first thing a model does with a feature: standardise its values, and scale it to another size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.config.models import scaled


class FrontEnd(nn.Module):
    """``[B, 1, T, F]`` to ``[B, 1, int(T r), int(F r)]``: (x - mean) / std, then bilinear, as Patch-Mix' ``resz``.

    Pixels that lie between are weighted by their two neighbours, without a filter before a reduction: so did the
    torchvision that Patch-Mix was written for.

    Args:
        shape: frames and bins of the feature.
        resize: factor r of both.
        standardize: with buffers for mean and deviation, 0 and 1 until `set_statistics`; else the values stay, and
            nothing is in the state.

    Raises:
        UserError: nothing would be left of the feature.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], *, resize: float, standardize: bool) -> None:
        super().__init__()
        self.size = scaled(shape, resize)
        if min(self.size) < 1:
            raise UserError(f"nothing is left of {shape[-2]} x {shape[-1]} scaled by {resize}", where="model.resize")
        self.resizes, self.standardizes = resize != 1, standardize
        if standardize:
            self.register_buffer("mean", torch.zeros(()))
            self.register_buffer("std", torch.ones(()))

    def set_statistics(self, mean: float, std: float) -> None:
        """Keep mean and standard deviation of the training side's values.

        Raises:
            UserError: values that are no numbers, or all equal.
            ValueError: the model does not standardise.
        """
        if not self.standardizes:
            raise ValueError("the model keeps no statistics: its standardize is 'none'")
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise UserError(
                f"the training side's values cannot be standardised: mean {mean}, standard deviation {std}",
                where="model.standardize",
                hint="set it to none, or choose another feature",
            )
        self.mean.fill_(mean)
        self.std.fill_(std)

    def forward(self, x: Tensor) -> Tensor:
        if self.standardizes:
            x = (x - self.mean) / self.std
        if self.resizes:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        return x
