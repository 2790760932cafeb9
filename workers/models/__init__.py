"""One architecture a file; `build_model` makes any of them from its config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import UserError
from workers.config import ModelConfig
from workers.models import ast, cnn, crnn, mn
from workers.models.classifier import SoundClassifier
from workers.models.pretrained import Layout, LoadReport, load_pretrained

__all__ = ["ARCHITECTURES", "Architecture", "LoadReport", "SoundClassifier", "build_model"]


class Architecture(NamedTuple):
    """What a model's file offers.

    Attributes:
        build: its config, frames, bins and number of classes to an initialised model.
        fit: a published file's entries to the model's.
    """

    build: Callable[[Any, int, int, int], SoundClassifier]
    fit: Layout


ARCHITECTURES: dict[str, Architecture] = {
    "cnn6": Architecture(cnn.build, cnn.fit),
    "cnn10": Architecture(cnn.build, cnn.fit),
    "mn": Architecture(mn.build, mn.fit),
    "crnn": Architecture(crnn.build, crnn.fit),
    "ast": Architecture(ast.build, ast.fit),
}


def build_model(
    config: ModelConfig, shape: tuple[int, ...], n_classes: int, weights: Path | None = None
) -> SoundClassifier:
    """A model as its config says, initialised from torch's global generator.

    Args:
        config: architecture and sizes.
        shape: frames and bins of the feature.
        n_classes: of the task.
        weights: file of pretrained weights; `SoundClassifier.load_report` tells what was taken from it.

    Raises:
        UserError: the architecture does not fit the feature, or the file the architecture.
    """
    if len(shape) != 2:
        raise UserError(f"a model reads features of frames x bins, not of shape {shape}", where="feature")
    architecture = ARCHITECTURES[config.name]
    model = architecture.build(config, *shape, n_classes)
    if weights is not None:
        model.load_report = load_pretrained(model, weights, architecture.fit)
    return model
