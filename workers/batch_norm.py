"""Batch normalisation that also trains on a batch of one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm1d):
    """One sample has no variance, so it is normalised by the running statistics, which it leaves as they are."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) == 1:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)
