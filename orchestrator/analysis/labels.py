"""A config in a reader's words: model and size, objective, and what tells it from its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from orchestrator.analysis.items import Model, Objective
from search_spaces.overrides import flatten
from workers.config.models import MODELS
from workers.config.objectives import OBJECTIVES
from workers.models.published_weights import published

SYMBOLS = {"alpha": "α", "tau": "τ", "mix_beta": "β", "class_weights": "weights", "label_smoothing": "smoothing"}
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
    file = pretrained.get("file") or None
    return Model(family=name, label=MODELS.describe(model), parameters=parameters, pretrained=file)


def pretraining(config: Mapping[str, Any]) -> str | None:
    """Corpora that the weights of a config were trained on before; the file's name where they are not known."""
    file = (config["model"].get("pretrained") or {}).get("file")
    if not file:
        return None
    known = published(str(file))
    return known.corpora if known else PurePosixPath(str(file)).name


def describe_objective(config: Mapping[str, Any]) -> Objective:
    """The objective and those of its settings that are not the usual ones."""
    objective = config["objective"]
    name = str(objective["name"])
    settings = {
        SYMBOLS.get(key, key): value
        for key, value in objective.items()
        if key not in UNREMARKABLE and not (key in DEFAULTS and value == DEFAULTS[key])
    }
    return Objective(name=name, label=OBJECTIVES.describe(objective), settings=settings)


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each config, the dotted keys on which they do not agree, but for those that are shown anyway."""
    flat = [flatten(config) for config in configs]
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
