"""Image networks of torchvision as Patch-Mix uses them: one input channel, no classifier."""

from __future__ import annotations

from torch import nn
from torchvision.models import EfficientNet, ResNet, efficientnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from workers.batch_norm import BatchNorm2d
from workers.config.models import EfficientNetConfig, ResNetConfig
from workers.models.classifier import SoundClassifier, Task

RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet10": (BasicBlock, [1, 1, 1, 1]),
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}


def build(config: ResNetConfig | EfficientNetConfig, task: Task) -> SoundClassifier:
    """The network of a config and a linear head."""
    backbone, width = resnet(config.name) if isinstance(config, ResNetConfig) else efficient_net(config.name)
    return SoundClassifier(task.front, backbone, nn.Linear(width, task.classes), width)


def resnet(name: str) -> tuple[ResNet, int]:
    """A ResNet (He et al., 2016) ``[B, 1, T, F]`` to ``[B, D]``, the mean over its last maps; and D, 512 or 2048.

    The names in its state are torchvision's. Parameters of 10, 18, 34, 50 and 101 layers: 4,899,520, 11,170,240,
    21,278,400, 23,501,760 and 42,493,888.
    """
    block, layers = RESNETS[name]
    network = ResNet(block, layers, num_classes=1, norm_layer=BatchNorm2d)
    feature_dim = network.fc.in_features
    network.conv1 = _stem(network.conv1)
    network.fc = nn.Identity()
    return network, feature_dim


def efficient_net(name: str) -> tuple[EfficientNet, int]:
    """An EfficientNet (Tan and Le, 2019) ``[B, 1, T, F]`` to ``[B, D]``; and D, 1280 (`b0`, `b1`) or 1408 (`b2`).

    The names in its state are torchvision's, and so is its stochastic depth, which rises to 0.2. Parameters of B0, B1
    and B2: 4,006,972, 6,512,608 and 7,700,418.
    """
    network = getattr(efficientnet, name)(num_classes=1, norm_layer=BatchNorm2d)
    feature_dim = network.classifier[-1].in_features
    network.features[0][0] = _stem(network.features[0][0])
    network.classifier = nn.Identity()
    return network, feature_dim


def stem_weight(backbone: nn.Module) -> str | None:
    """Name of the weight of an image network's first convolution; None for any other network."""
    if isinstance(backbone, ResNet):
        return "conv1.weight"
    return "features.0.0.weight" if isinstance(backbone, EfficientNet) else None


def _stem(colour: nn.Conv2d) -> nn.Conv2d:
    """The same convolution for one channel, initialised as torchvision initialises its own."""
    stem = nn.Conv2d(1, colour.out_channels, colour.kernel_size, colour.stride, colour.padding, bias=False)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem
