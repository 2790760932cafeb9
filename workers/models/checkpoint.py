"""A whole trained model, backbone and head, from lungtune's own file or from a checkpoint that Patch-Mix wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from feature_store.errors import UserError
from workers.models.ast import AstBackbone
from workers.models.classifier import SoundClassifier
from workers.models.load_report import LoadReport
from workers.models.pretrained import NO_PLACE, fill
from workers.models.voice_cnn import published_state
from workers.models.weight_file import State, read_content, state_of


def load_checkpoint(model: SoundClassifier, path: Path) -> LoadReport:
    """Put a trained model's backbone and head into a model of the same kind, sizes, feature and classes.

    Patch-Mix keeps backbone (``model``) and head (``classifier``) apart, and beside them its command line, which is
    read without running code, and its optimiser, which is not used. Its transformers' unused heads are left over; its
    position tables are taken as they are, whatever the layout they were made with.

    Args:
        model: as built from its config.
        path: ``model.safetensors`` of lungtune, ``best.pth`` of Patch-Mix, or a published one of the voice system.

    Raises:
        UserError: the file is damaged, holds no head, or does not fit the model; the model then stays as it was.
    """
    report = LoadReport()
    content = read_content(path)
    if isinstance(content, dict) and all(isinstance(content.get(part), dict) for part in ("model", "classifier")):
        state = _patch_mix_state(content, model.backbone, report, path)
    else:
        state = state_of(content, path)
        if voice := published_state(state):
            state, report.left_over = voice
        if not all(any(name.startswith(part) for name in state) for part in ("backbone.", "head.")):
            raise UserError(
                "is no whole model: it has no backbone and head",
                where=str(path),
                hint="a backbone alone is a start for training: name it in model.pretrained",
            )
    _check_classes(model, state, path)
    fill(model, state, report, path)
    return report


def _patch_mix_state(content: dict[str, Any], backbone: nn.Module, report: LoadReport, path: Path) -> State:
    """Patch-Mix' two states under our names; its transformer is the part ``v`` of its model."""
    trunk = state_of(content["model"], path)
    if isinstance(backbone, AstBackbone):
        report.left_over += [name for name in trunk if not name.startswith("v.")]
        trunk = {
            name.removeprefix("v.").replace("patch_embed.proj.", "patch_embed."): value
            for name, value in trunk.items()
            if name.startswith("v.")
        }
    own = backbone.state_dict()
    spare = [name for name in trunk if name not in own and NO_PLACE.match(name)]
    report.left_over += spare
    state = {f"backbone.{name}": value for name, value in trunk.items() if name not in spare}
    return state | {f"head.{name}": value for name, value in state_of(content["classifier"], path).items()}


def _check_classes(model: SoundClassifier, state: State, path: Path) -> None:
    """Refuse a head for another number of classes in words, not by a tensor's shape."""
    name, own = [(f"head.{n}", value) for n, value in model.head.state_dict().items() if value.dim() == 2][-1]
    there = state.get(name)
    if there is not None and there.dim() == 2 and there.shape[1] == own.shape[1] and len(there) != len(own):
        raise UserError(
            f"is a model of {len(there)} classes, the task has {len(own)}",
            where=str(path),
            hint="set the config's task to the one that it was trained for",
        )
