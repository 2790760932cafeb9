"""The VGG-like network of the breathing-phase classifier, with one residual block (docs/specification.md, 5.4)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d, BatchNorm2d
from workers.config.models import VggConfig
from workers.models.classifier import Task
from workers.models.two_inputs import TwoInputClassifier, join, with_one_logit

CHANNELS = (64, 128, 256, 512)  # of the four blocks
SMALLEST = 2  # frames and bins: the first block halves them, the two poolings after it round up
BESIDE = 64  # width of what the scalars become


def build(config: VggConfig, task: Task) -> TwoInputClassifier:
    """The network of a config. With two classes its head gives one logit: the published counts are of that."""
    return join(
        task,
        Vgg(task.maps, task.front.size, dropout=config.dropout),
        Vgg.feature_dim,
        partial(scalar_branch, dropout=config.dropout),
        BESIDE,
        lambda width: with_one_logit(partial(head, width, dropout=config.dropout), task.classes),
        standardizes=config.scalar_scale == "train",
    )


class Vgg(nn.Module):
    """Four blocks of three 3x3 convolutions, and the mean over all places: ``[B, C, T, F]`` to ``[B, 512]``.

    The first block halves frames and bins by its third convolution, the second and third by a maximum, rounded up. The
    fourth has its input added, through a 1x1 convolution.

    Args:
        channels: maps of the feature.
        shape: frames and bins.
        dropout: of channels, after every block; half of it after the first.

    Raises:
        UserError: the feature is too small.
    """

    feature_dim = CHANNELS[-1]

    def __init__(self, channels: int, shape: tuple[int, int], *, dropout: float) -> None:
        super().__init__()
        if min(shape) < SMALLEST:
            raise UserError(
                f"the VGG needs 2 frames and 2 bins, the feature has {shape[0]} x {shape[1]}", where="model"
            )
        one, two, three, four = CHANNELS
        self.block1 = nn.Sequential(*_block(channels, one, last_stride=2), nn.Dropout2d(dropout / 2))
        self.block2 = nn.Sequential(*_block(one, two), nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout))
        self.block3 = nn.Sequential(*_block(two, three), nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout))
        self.block4 = nn.Sequential(*_block(three, four), nn.Dropout2d(dropout))
        self.residual = nn.Sequential(nn.Conv2d(three, four, 1, bias=False), BatchNorm2d(four))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(x)))
        return (self.block4(x) + self.residual(x)).mean(dim=(2, 3))


def scalar_branch(scalars: int, *, dropout: float) -> nn.Sequential:
    """``[B, scalars]`` to ``[B, 64]``."""
    return nn.Sequential(*_dense(scalars, BESIDE), nn.Dropout(dropout), *_dense(BESIDE, BESIDE))


def head(width: int, outputs: int, *, dropout: float) -> nn.Sequential:
    """``[B, width]`` to ``[B, outputs]``."""
    hidden = [*_dense(width, 256), nn.Dropout(dropout), *_dense(256, 128), nn.Dropout(dropout)]
    return nn.Sequential(*hidden, nn.Linear(128, outputs))


def _block(inputs: int, outputs: int, *, last_stride: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for source, stride in ((inputs, 1), (outputs, 1), (outputs, last_stride)):
        convolution = nn.Conv2d(source, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, BatchNorm2d(outputs), nn.GELU()]
    return layers


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), BatchNorm1d(outputs), nn.GELU()]
