"""One architecture per module, each with `build`; `build_model` makes any of them from its config.

Nothing here imports torch before a model is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.config.models import MODELS, ModelConfig

if TYPE_CHECKING:
    from workers.models.classifier import SoundClassifier


def build_model(
    config: ModelConfig, shape: tuple[int, ...], n_classes: int, weights: Path | None = None, *, scalars: int = 0
) -> SoundClassifier:
    """A model as its config says, initialised from torch's global generator.

    The module that the config's class names has a function ``build(config, task)``, which takes the config and a
    `workers.models.classifier.Task`, and returns a `SoundClassifier`.

    Args:
        config: architecture and sizes.
        shape: frames and bins of the feature, and its maps before them where it has several.
        n_classes: of the task.
        weights: file of pretrained weights for the backbone; the head always starts untrained.
        scalars: numbers of the feature beside its maps.

    Raises:
        UserError: the architecture does not fit the feature, or the file the architecture; or a fault of the package
            that the architecture is from, if that is another one.
    """
    from workers.models.classifier import SoundClassifier, Task
    from workers.models.front_end import FrontEnd

    front = FrontEnd(shape, resize=config.resize, standardize=config.standardize == "train")
    task = Task(front, maps=shape[0] if len(shape) == 3 else 1, classes=n_classes, scalars=scalars)
    model = MODELS.build(config, task, kind=SoundClassifier)
    if weights is not None:
        from workers.models.pretrained import load_pretrained

        how = config.model_dump(include={"pretrained_stem", "pos_embed_layout"})
        model.load_report = load_pretrained(model.backbone, weights, **how)
    return model
