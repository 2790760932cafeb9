"""One architecture a file; `build_model` makes any of them from its config."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from workers.config import (
    AstConfig,
    Cnn8Config,
    CnnConfig,
    CrnnConfig,
    CycleGuardianConfig,
    EfficientNetConfig,
    MnConfig,
    ModelConfig,
    ResNetConfig,
    SsastConfig,
    VggConfig,
    VoiceCnnConfig,
)
from workers.models import cnn8, vgg, voice_cnn
from workers.models.ast import AstBackbone, AstClassifier
from workers.models.checkpoint import load_checkpoint
from workers.models.classifier import SoundClassifier
from workers.models.cnn import PannsCnn
from workers.models.crnn import Crnn
from workers.models.cycleguardian import CycleGuardian, GroupClassifier
from workers.models.front_end import FrontEnd
from workers.models.image import efficient_net, resnet
from workers.models.load_report import LoadReport
from workers.models.mn import MobileNet
from workers.models.pretrained import load_pretrained
from workers.models.two_inputs import OneLogit, TwoInputClassifier

__all__ = ["LoadReport", "SoundClassifier", "build_model", "load_checkpoint"]


def build_model(
    config: ModelConfig, shape: tuple[int, ...], n_classes: int, weights: Path | None = None, *, scalars: int = 0
) -> SoundClassifier:
    """A model as its config says, initialised from torch's global generator.

    Args:
        config: architecture and sizes.
        shape: frames and bins of the feature, and its maps before them where it has several.
        n_classes: of the task.
        weights: file of pretrained weights for the backbone; the head always starts anew.
        scalars: numbers of the feature beside its maps.

    Raises:
        UserError: the architecture does not fit the feature, or the file the architecture.
    """
    front = FrontEnd(shape, resize=config.resize, standardize=config.standardize == "train")
    model = _build(config, front, shape[0] if len(shape) == 3 else 1, n_classes, scalars)
    if weights is not None:
        how = config.model_dump(include={"pretrained_stem", "pos_embed_layout"})
        model.load_report = load_pretrained(model.backbone, weights, **how)
    return model


def _build(config: ModelConfig, front: FrontEnd, channels: int, n_classes: int, scalars: int) -> SoundClassifier:
    if isinstance(config, AstConfig | SsastConfig):
        return _transformer(config, front, n_classes)
    if isinstance(config, Cnn8Config | VggConfig):
        return _phase_model(config, front, channels, n_classes, scalars)
    if isinstance(config, CycleGuardianConfig):
        return _group_model(config, front, channels, n_classes)
    if isinstance(config, VoiceCnnConfig):
        return _voice_model(config, front, n_classes, scalars)
    backbone, width = _backbone(config, front.size)
    head: nn.Module = nn.Linear(width, n_classes)
    if isinstance(config, MnConfig):
        head = nn.Sequential(nn.Dropout(config.dropout), head)
    return SoundClassifier(front, backbone, head, width)


def _phase_model(
    config: Cnn8Config | VggConfig, front: FrontEnd, channels: int, n_classes: int, scalars: int
) -> TwoInputClassifier:
    """With two classes the head gives one logit, as the source system's: the published counts are of that."""
    parts = cnn8 if isinstance(config, Cnn8Config) else vgg
    trunk = cnn8.Cnn8 if isinstance(config, Cnn8Config) else vgg.Vgg
    backbone = trunk(channels, front.size, dropout=config.dropout)
    beside = parts.scalar_branch(scalars, dropout=config.dropout) if scalars else None
    width = backbone.feature_dim + (parts.BESIDE if scalars else 0)
    head = parts.head(width, 1 if n_classes == 2 else n_classes, dropout=config.dropout)
    if n_classes == 2:
        head.append(OneLogit())
    standardizes = config.scalar_scale == "train"
    return TwoInputClassifier(front, backbone, head, width, scalars=scalars, beside=beside, standardizes=standardizes)


def _voice_model(config: VoiceCnnConfig, front: FrontEnd, n_classes: int, scalars: int) -> TwoInputClassifier:
    backbone = voice_cnn.VoiceCnn(front.size)
    beside = voice_cnn.medical_branch(scalars) if scalars else None
    width = backbone.feature_dim + (voice_cnn.BESIDE if scalars else 0)
    head = voice_cnn.head(width, n_classes, softmax_in_net=config.softmax_in_net == "seed_compat")
    return TwoInputClassifier(front, backbone, head, width, scalars=scalars, beside=beside, standardizes=False)


def _group_model(config: CycleGuardianConfig, front: FrontEnd, channels: int, n_classes: int) -> GroupClassifier:
    sizes = config.model_dump(include={"group_frames", "group_step", "clusters", "codes", "fusion"})
    return GroupClassifier(front, CycleGuardian(channels, front.size, **sizes), n_classes)


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
            crop=config.crop,
            stretch=config.stretch,
        )
    else:
        blocks, convolutions = {"cnn6": (4, 1), "cnn10": (4, 2), "cnn14": (6, 2)}[config.name]
        made = PannsCnn(shape, blocks=blocks, convolutions=convolutions, dropout=config.dropout)
    return made, made.feature_dim
