"""Batch normalisation that also trains where a channel has one value: a batch of one, on the smallest features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class _OneValue(nn.modules.batchnorm._BatchNorm):
    """One value has no variance, so it is normalised by the running statistics, which it leaves as they are."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)


class BatchNorm1d(_OneValue, nn.BatchNorm1d):
    """Of ``[B, C]``; see `_OneValue`."""


class BatchNorm2d(_OneValue, nn.BatchNorm2d):
    """Of ``[B, C, H, W]``; see `_OneValue`."""
