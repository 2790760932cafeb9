"""A backbone that turns features into one vector a cycle, and a head that turns the vector into logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from workers.inputs import WithShares
from workers.models.front_end import FrontEnd

if TYPE_CHECKING:
    from workers.models.load_report import LoadReport


@dataclass(frozen=True)
class Task:
    """What a model is built for.

    Attributes:
        front: the model's first module; ``front.size`` is frames and bins of what it gives.
        maps: of the feature, the channels of what `front` gives.
        classes: logits of the head.
        scalars: numbers of the feature beside its maps.
    """

    front: FrontEnd
    maps: int
    classes: int
    scalars: int


class SoundClassifier(nn.Module):
    """Any model of lungtune.

    Args:
        front: ``[B, C, T, F]`` (maps, time, mel; mostly one map) to the same, standardised and resized.
        backbone: what `front` gives to ``[B, D]``.
        head: ``[B, D]`` to logits ``[B, classes]``.
        feature_dim: D.

    Attributes:
        load_report: what became of a pretrained file's entries; None where there was no file.
    """

    def __init__(self, front: FrontEnd, backbone: nn.Module, head: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.front, self.backbone, self.head, self.feature_dim = front, backbone, head, feature_dim
        self.load_report: LoadReport | None = None

    def set_statistics(self, mean: float, std: float) -> None:
        """See `FrontEnd.set_statistics`."""
        self.front.set_statistics(mean, std)

    def set_scalar_statistics(self, scalars: Tensor) -> None:
        """Learn from the training side's scalars ``[cycles, scalars]``; only models that take them do."""

    def features(self, x: Any) -> Tensor:
        """``[B, C, T, F]``, or `Inputs` of a model that takes more than maps, to ``[B, D]``."""
        if isinstance(x, WithShares):
            return self.backbone(self.front(x.values), x.shares)
        return self.backbone(self.front(x))

    def forward(self, x: Any) -> Tensor:
        """What `features` takes, to logits ``[B, classes]``."""
        return self.head(self.features(x))
