"""A config in a reader's words: model and size, objective, and what tells it from its neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from orchestrator.analysis.items import Model, Objective

FAMILIES = {
    "cnn6": "CNN6",
    "cnn8": "CNN8",
    "cnn10": "CNN10",
    "cnn14": "CNN14",
    "crnn": "CRNN",
    "ast": "AST",
    "ssast": "SSAST",
    "vgg": "VGG",
    "cycleguardian": "CycleGuardian",
    "voice_cnn": "Voice CNN",
}
OBJECTIVES = {
    "ce": "Cross entropy",
    "patchmix": "Patch-Mix",
    "patchmix_cl": "Patch-Mix CL",
    "cutmix_mixup": "CutMix and mixup",
    "cycleguardian": "CycleGuardian",
}
SYMBOLS = {"alpha": "α", "tau": "τ", "mix_beta": "β", "class_weights": "weights", "label_smoothing": "smoothing"}
PRETRAINED = {  # name of a published file of weights -> what it was trained on, as its authors say
    r"audioset_\d+_\d+_": "ImageNet + AudioSet",
    r"deit_|resnet\d|efficientnet_b": "ImageNet",
    r"ssast-": "AudioSet + LibriSpeech",
    r"cnn\d+_map": "AudioSet",
    r"mn\d+_im": "ImageNet",
    r"mn\d+_as_no_im_pre": "AudioSet",
    r"mn\d+_as": "ImageNet + AudioSet",
    r"vit_.*dinov2": "LVD-142M",
}
UNREMARKABLE = frozenset({"name", "proj_dim"})
SHOWN_ANYWAY = ("objective.", "model.pretrained", "training.watch_test")
DEFAULTS = {
    "class_weights": "none",
    "label_smoothing": 0.0,
    "domain": "patch",
    "negative_pair": "all",
    "target_type": "grad_block",
}


class Described(Protocol):
    """A row of a board: an entry, or a trial of a search."""

    objective: Objective
    differs: dict[str, Any]


def describe_model(config: Mapping[str, Any], parameters: int) -> Model:
    """Family and size of a config's model."""
    model = config["model"]
    name, pretrained = str(model["name"]), model.get("pretrained") or {}
    label = FAMILIES.get(name, name)
    if name == "mn":
        label = f"MobileNet mn{round(float(model['width']) * 10):02d}"
    elif name in ("ast", "ssast"):
        depth = model.get("depth", 12)
        label = f"{label} {model['size']}" + (f", {depth} blocks" if depth != 12 else "")
    elif name.startswith(("resnet", "efficientnet")):
        label = name.replace("resnet", "ResNet").replace("efficientnet_b", "EfficientNet B")
    elif name == "crnn":
        label = f"CRNN {model['hidden']}×{model['layers']}"
    return Model(family=name, label=label, parameters=parameters, pretrained=pretrained.get("file") or None)


def pretraining(config: Mapping[str, Any]) -> str | None:
    """Corpora that the weights of a config were trained on before; the file's name where they are not known."""
    file = (config["model"].get("pretrained") or {}).get("file")
    if not file:
        return None
    name = PurePosixPath(str(file)).name
    return next((corpora for pattern, corpora in PRETRAINED.items() if re.match(pattern, name, re.IGNORECASE)), name)


def describe_objective(config: Mapping[str, Any]) -> Objective:
    """The objective and those of its settings that are not the usual ones."""
    objective = config["objective"]
    name = str(objective["name"])
    settings = {
        SYMBOLS.get(key, key): value
        for key, value in objective.items()
        if key not in UNREMARKABLE and not (key in DEFAULTS and value == DEFAULTS[key])
    }
    return Objective(name=name, label=OBJECTIVES.get(name, name), settings=settings)


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each config, the dotted keys on which they do not agree, but for those that are shown anyway."""
    flat = [_flatten(config) for config in configs]
    keys = sorted({key for one in flat for key in one if not key.startswith(SHOWN_ANYWAY)})
    varying = [key for key in keys if any(one.get(key) != flat[0].get(key) for one in flat)]
    return [{key: one.get(key) for key in varying} for one in flat]


def settings(entry: Described) -> list[str]:
    """What the objective's name leaves open: ``α 1``, ``τ 0.06``."""
    return [f"{key} {number(value)}" for key, value in entry.objective.settings.items()]


def differs(entry: Described, limit: int = 4) -> list[str]:
    """What tells an entry from its neighbours of the same model and objective: ``lr 0.001``."""
    pairs = [
        (key.split(".", 1)[-1], value) for key, value in entry.differs.items() if not isinstance(value, list | dict)
    ]
    return [f"{key} {number(value)}" for key, value in pairs[:limit]]


def number(value: Any) -> str:
    """A setting's value, floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
