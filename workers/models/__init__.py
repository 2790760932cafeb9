"""One architecture a file; `build_model` makes any of them from its config."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from workers.config import (
    AstConfig,
    CnnConfig,
    CrnnConfig,
    EfficientNetConfig,
    MnConfig,
    ModelConfig,
    ResNetConfig,
    SsastConfig,
)
from workers.models.ast import AstBackbone, AstClassifier
from workers.models.checkpoint import load_checkpoint
from workers.models.classifier import SoundClassifier
from workers.models.cnn import PannsCnn
from workers.models.crnn import Crnn
from workers.models.front import FrontEnd
from workers.models.image import efficient_net, resnet
from workers.models.load_report import LoadReport
from workers.models.mn import MobileNet
from workers.models.pretrained import load_pretrained

__all__ = ["LoadReport", "SoundClassifier", "build_model", "load_checkpoint"]


def build_model(
    config: ModelConfig, shape: tuple[int, ...], n_classes: int, weights: Path | None = None
) -> SoundClassifier:
    """A model as its config says, initialised from torch's global generator.

    Args:
        config: architecture and sizes.
        shape: frames and bins of the feature.
        n_classes: of the task.
        weights: file of pretrained weights for the backbone; the head always starts anew.

    Raises:
        UserError: the architecture does not fit the feature, or the file the architecture.
    """
    front = FrontEnd(shape, resize=config.resize, standardize=config.standardize == "train")
    model = _build(config, front, n_classes)
    if weights is not None:
        how = config.model_dump(include={"pretrained_stem", "pos_embed_layout"})
        model.load_report = load_pretrained(model.backbone, weights, **how)
    return model


def _build(config: ModelConfig, front: FrontEnd, n_classes: int) -> SoundClassifier:
    if isinstance(config, AstConfig | SsastConfig):
        return _transformer(config, front, n_classes)
    backbone, width = _backbone(config, front.size)
    head: nn.Module = nn.Linear(width, n_classes)
    if isinstance(config, MnConfig):
        head = nn.Sequential(nn.Dropout(config.dropout), head)
    return SoundClassifier(front, backbone, head, width)


def _transformer(config: AstConfig | SsastConfig, front: FrontEnd, n_classes: int) -> AstClassifier:
    backbone = AstBackbone(
        front.size,
        size=config.size,
        depth=config.depth,
        patch=config.patch_size,
        stride=config.stride,
        drop_path=config.drop_path,
        pool=config.pool if isinstance(config, SsastConfig) else "cls",
    )
    width = backbone.feature_dim
    head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_classes))
    return AstClassifier(front, backbone, head, width)


def _backbone(
    config: CnnConfig | MnConfig | CrnnConfig | ResNetConfig | EfficientNetConfig, shape: tuple[int, int]
) -> tuple[nn.Module, int]:
    """A backbone ``[B, 1, T, F]`` to ``[B, D]``, and D."""
    if isinstance(config, ResNetConfig):
        return resnet(config.name)
    if isinstance(config, EfficientNetConfig):
        return efficient_net(config.name)
    made: MobileNet | Crnn | PannsCnn
    if isinstance(config, MnConfig):
        made = MobileNet(width=config.width)
    elif isinstance(config, CrnnConfig):
        made = Crnn(
            shape,
            hidden=config.hidden,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            head_dropout=config.head_dropout,
        )
    else:
        blocks, convolutions = {"cnn6": (4, 1), "cnn10": (4, 2), "cnn14": (6, 2)}[config.name]
        made = PannsCnn(shape, blocks=blocks, convolutions=convolutions, dropout=config.dropout)
    return made, made.feature_dim
