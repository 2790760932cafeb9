"""MobileNetV3 for audio as in EfficientAT (Schmid et al., 2023), at any width, with one input channel."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from workers.batch_norm import BatchNorm2d
from workers.config.models import MnConfig
from workers.models.classifier import SoundClassifier, Task

WIDEST = 1280  # of the feature, at width 1


def build(config: MnConfig, task: Task) -> SoundClassifier:
    """The network of a config, with dropout before the head's linear layer."""
    backbone = MobileNet(width=config.width)
    head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(backbone.feature_dim, task.classes))
    return SoundClassifier(task.front, backbone, head, backbone.feature_dim)


class Block(NamedTuple):
    """A row of Table 1 of MobileNetV3 (Howard et al., 2019): Large, without dilation."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


STEM = 16
BLOCKS = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)


class SqueezeExcitation(nn.Module):
    """Channel weights from the mean over frequency and time; a sigmoid, where MobileNetV3 has a hard one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = to_eight(channels // 4)
        self.fc1, self.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc2(self.fc1(x.mean(dim=(2, 3))).relu()).sigmoid()
        return x * weight[:, :, None, None]


class ConcurrentSqueeze(nn.Module):
    """EfficientAT's wrapper of one squeeze over channels; it exists for its checkpoints' names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([SqueezeExcitation(channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.conc_se_layers[0](x)


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, row: Block, width: float) -> None:
        super().__init__()
        expanded, out = to_eight(row.expanded * width), to_eight(row.out * width)
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        convolution = partial(Conv2dNormActivation, norm_layer=_norm)
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(convolution(inputs, expanded, kernel_size=1, activation_layer=activation))
        layers.append(
            convolution(expanded, expanded, row.kernel, stride=row.stride, groups=expanded, activation_layer=activation)
        )
        if row.squeeze:
            layers.append(ConcurrentSqueeze(expanded))
        layers.append(convolution(expanded, out, kernel_size=1, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.adds_input = row.stride == 1 and inputs == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.adds_input else self.block(x)


class MobileNet(nn.Module):
    """``[B, 1, T, F]`` to ``[B, 1280 * width]``, the activation below the classifier's last layer.

    At width 0.4 with AudioSet's 527-class layer it has 983,599 parameters; the published file of 993,485 values also
    holds the batch norms' statistics and counters.

    Args:
        width: multiplies every number of channels; mn04 is 0.4.
    """

    def __init__(self, *, width: float) -> None:
        super().__init__()
        channels = to_eight(STEM * width)
        layers: list[nn.Module] = [
            Conv2dNormActivation(1, channels, 3, stride=2, norm_layer=_norm, activation_layer=nn.Hardswish)
        ]
        for row in BLOCKS:
            layers.append(InvertedResidual(channels, row, width))
            channels = to_eight(row.out * width)
        last = 6 * channels
        layers.append(Conv2dNormActivation(channels, last, 1, norm_layer=_norm, activation_layer=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.feature_dim = to_eight(WIDEST * width)
        # EfficientAT's positions in its classifier, so that its names fit: 2 is the hidden layer
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, self.feature_dim), nn.Hardswish()
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x.transpose(2, 3)))  # the network reads [mel, time]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)


def to_eight(channels: float) -> int:
    """The nearest multiple of eight, no more than a tenth below: MobileNet's rounding of widths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


_norm = partial(BatchNorm2d, eps=0.001, momentum=0.01)
