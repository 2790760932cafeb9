"""A backbone that turns features into one vector a cycle, and a head that turns the vector into logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from workers.models.front import FrontEnd

if TYPE_CHECKING:
    from workers.models.load_report import LoadReport


class SoundClassifier(nn.Module):
    """Any model of lungtune.

    Args:
        front: ``[B, 1, T, F]`` (time, mel) to the same, standardised and resized.
        backbone: what `front` gives to ``[B, D]``.
        head: ``[B, D]`` to logits ``[B, classes]``.
        feature_dim: D.

    Attributes:
        load_report: what became of a pretrained file's entries; None where there was no file.
    """

    mixes_tokens = False

    def __init__(self, front: FrontEnd, backbone: nn.Module, head: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.front, self.backbone, self.head, self.feature_dim = front, backbone, head, feature_dim
        self.load_report: LoadReport | None = None

    def set_statistics(self, mean: float, std: float) -> None:
        """See `FrontEnd.set_statistics`."""
        self.front.set_statistics(mean, std)

    def features(self, x: Tensor) -> Tensor:
        """``[B, 1, T, F]`` to ``[B, D]``."""
        return self.backbone(self.front(x))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, T, F]`` to logits ``[B, classes]``."""
        return self.head(self.features(x))
