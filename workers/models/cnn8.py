"""CNN8 of the breathing-phase classifier: eight convolutions beside a small network of scalars.

Specified in docs/specification.md, 5.4.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d, BatchNorm2d
from workers.config.models import Cnn8Config
from workers.models.classifier import Task
from workers.models.two_inputs import TwoInputClassifier, join, with_one_logit

CHANNELS = (32, 64, 128, 128, 256, 256, 256, 256)
HALVED_AFTER = (2, 4)  # convolutions that a 2x2 maximum follows
BESIDE = 64  # width of what the scalars become


def build(config: Cnn8Config, task: Task) -> TwoInputClassifier:
    """The network of a config. With two classes its head gives one logit: the published counts are of that."""
    return join(
        task,
        Cnn8(task.maps, task.front.size, dropout=config.dropout),
        Cnn8.feature_dim,
        partial(scalar_branch, dropout=config.dropout),
        BESIDE,
        lambda width: with_one_logit(partial(head, width, dropout=config.dropout), task.classes),
        standardizes=config.scalar_scale == "train",
    )


class Cnn8(nn.Module):
    """3x3 convolutions, each with ReLU and batch norm; the mean over all places: ``[B, C, T, F]`` to ``[B, 256]``.

    The maximum over 2 x 2 follows the second and the fourth convolution, and channels are dropped after the fourth
    alone, as in the source system's code; its description has them dropped after the second, too.

    Args:
        channels: maps of the feature.
        shape: frames and bins.
        dropout: of channels.

    Raises:
        UserError: the poolings would leave nothing of the feature.
    """

    feature_dim = CHANNELS[-1]

    def __init__(self, channels: int, shape: tuple[int, int], *, dropout: float) -> None:
        super().__init__()
        if min(shape) < 2 ** len(HALVED_AFTER):
            raise UserError(
                f"the CNN8 needs 4 frames and 4 bins, the feature has {shape[0]} x {shape[1]}", where="model"
            )
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((channels, *CHANNELS), CHANNELS, strict=False), start=1):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU(inplace=True), BatchNorm2d(outputs)]
            if number in HALVED_AFTER:
                layers.append(nn.MaxPool2d(2))
            if number == HALVED_AFTER[-1]:
                layers.append(nn.Dropout2d(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(dim=(2, 3))


def scalar_branch(scalars: int, *, dropout: float) -> nn.Sequential:
    """``[B, scalars]`` to ``[B, 64]``."""
    return _xavier(
        nn.Linear(scalars, BESIDE), nn.ReLU(), BatchNorm1d(BESIDE), nn.Dropout(dropout),
        nn.Linear(BESIDE, BESIDE), nn.ReLU(), BatchNorm1d(BESIDE),
    )  # fmt: skip


def head(width: int, outputs: int, *, dropout: float) -> nn.Sequential:
    """``[B, width]`` to ``[B, outputs]``."""
    return _xavier(
        nn.Linear(width, 256), nn.ReLU(), BatchNorm1d(256), nn.Dropout(dropout),
        nn.Linear(256, 128), nn.ReLU(), BatchNorm1d(128),
        nn.Linear(128, outputs),
    )  # fmt: skip


def _xavier(*layers: nn.Module) -> nn.Sequential:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
