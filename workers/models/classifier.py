"""A backbone that turns features into one vector a cycle, and a head that turns the vector into logits."""

from __future__ import annotations

from torch import Tensor, nn


class SoundClassifier(nn.Module):
    """Any model of lungtune.

    Args:
        backbone: ``[B, 1, T, F]`` (time, mel) to ``[B, D]``.
        head: ``[B, D]`` to logits ``[B, classes]``.
        feature_dim: D.
    """

    mixes_tokens = False

    def __init__(self, backbone: nn.Module, head: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.backbone, self.head, self.feature_dim = backbone, head, feature_dim

    def features(self, x: Tensor) -> Tensor:
        """``[B, 1, T, F]`` to ``[B, D]``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, T, F]`` to logits ``[B, classes]``."""
        return self.head(self.features(x))
