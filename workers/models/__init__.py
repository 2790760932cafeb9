"""One architecture a file; `build_model` makes any of them from its config."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from workers.config import AstConfig, CnnConfig, CrnnConfig, MnConfig, ModelConfig
from workers.models.ast import AstBackbone, AstClassifier
from workers.models.classifier import SoundClassifier
from workers.models.cnn import PannsCnn, check_size
from workers.models.crnn import Crnn
from workers.models.mn import MobileNet
from workers.models.pretrained import LoadReport, load_pretrained

__all__ = ["LoadReport", "SoundClassifier", "build_model"]


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
    model = _build(config, shape, n_classes)
    if weights is not None:
        model.load_report = load_pretrained(model.backbone, weights)
    return model


def _build(config: ModelConfig, shape: tuple[int, ...], n_classes: int) -> SoundClassifier:
    if isinstance(config, AstConfig):
        ast = AstBackbone(
            shape,
            size=config.size,
            depth=config.depth,
            patch=config.patch,
            stride=config.stride,
            drop_path=config.drop_path,
        )
        head = nn.Sequential(nn.LayerNorm(ast.feature_dim), nn.Linear(ast.feature_dim, n_classes))
        return AstClassifier(ast, head, ast.feature_dim)
    if isinstance(config, MnConfig):
        mobile = MobileNet(width=config.width)
        head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(mobile.feature_dim, n_classes))
        return SoundClassifier(mobile, head, mobile.feature_dim)
    if isinstance(config, CrnnConfig):
        crnn = Crnn(
            shape,
            hidden=config.hidden,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            head_dropout=config.head_dropout,
        )
        return SoundClassifier(crnn, nn.Linear(crnn.feature_dim, n_classes), crnn.feature_dim)
    assert isinstance(config, CnnConfig)
    check_size(shape)
    cnn = PannsCnn(convolutions=1 if config.name == "cnn6" else 2, dropout=config.dropout)
    return SoundClassifier(cnn, nn.Linear(cnn.feature_dim, n_classes), cnn.feature_dim)
