"""`ExperimentConfig`: everything that one training needs, in one typed model. No default lives elsewhere.

Nothing here imports torch, so that a thin driver or trial process can read a config.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from feature_store.errors import UserError
from feature_store.features import FeatureSpec, resolve_feature
from workers.config.base import Part, explain
from workers.config.models import (
    CHANNEL_MODELS,
    CLUSTER_MODELS,
    SCALAR_MODELS,
    TOKEN_MODELS,
    AstConfig,
    Cnn8Config,
    CnnConfig,
    CrnnConfig,
    CycleGuardianConfig,
    EfficientNetConfig,
    MnConfig,
    ModelConfig,
    Pretrained,
    ResNetConfig,
    SsastConfig,
    VggConfig,
    VoiceCnnConfig,
)
from workers.config.objectives import (
    CLUSTER_OBJECTIVES,
    TOKEN_OBJECTIVES,
    CeConfig,
    ClassWeights,
    CutMixMixupConfig,
    CycleGuardianLossConfig,
    ObjectiveConfig,
    PatchMixClConfig,
    PatchMixConfig,
    TargetType,
)
from workers.config.training import AugmentConfig, AverageConfig, Metric, OptimConfig, TrainingConfig

__all__ = [
    "TOKEN_MODELS",
    "TOKEN_OBJECTIVES",
    "AstConfig",
    "AugmentConfig",
    "AverageConfig",
    "CeConfig",
    "ClassWeights",
    "Cnn8Config",
    "CnnConfig",
    "CrnnConfig",
    "CutMixMixupConfig",
    "CycleGuardianConfig",
    "CycleGuardianLossConfig",
    "EfficientNetConfig",
    "ExperimentConfig",
    "Metric",
    "MnConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "Part",
    "PatchMixClConfig",
    "PatchMixConfig",
    "Pretrained",
    "ResNetConfig",
    "SsastConfig",
    "TargetType",
    "TrainingConfig",
    "VggConfig",
    "VoiceCnnConfig",
    "explain",
]


class ExperimentConfig(Part):
    """Everything one training needs, but for its data's place, split, fold and seed."""

    dataset: str = "icbhi"
    task: str = "lungsound4"
    devices: tuple[str, ...] | None = Field(default=None, description="only recordings of these devices; null: all")
    feature: FeatureSpec
    model: ModelConfig
    objective: ObjectiveConfig
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("feature", mode="before")
    @classmethod
    def _named_feature(cls, value: Any) -> Any:
        return resolve_feature(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> ExperimentConfig:
        if self.objective.name in TOKEN_OBJECTIVES and self.model.name not in TOKEN_MODELS:
            raise ValueError(
                f"objective '{self.objective.name}' mixes patch tokens, which model '{self.model.name}' does not have; "
                f"use model {', '.join(sorted(TOKEN_MODELS))}, or objective ce"
            )
        if self.objective.name in CLUSTER_OBJECTIVES and self.model.name not in CLUSTER_MODELS:
            raise ValueError(
                f"objective '{self.objective.name}' clusters groups of frames, which model '{self.model.name}' does "
                f"not have; use model {', '.join(sorted(CLUSTER_MODELS))}, or another objective"
            )
        if self.feature.channels is not None and self.model.name not in CHANNEL_MODELS:
            raise ValueError(
                f"feature '{self.feature.kind}' has {self.feature.channels} maps, and model '{self.model.name}' takes "
                f"one; use model {', '.join(sorted(CHANNEL_MODELS))}"
            )
        if self.feature.scalars and self.model.name not in SCALAR_MODELS:
            raise ValueError(
                f"feature '{self.feature.kind}' has {self.feature.scalars} scalars, which model '{self.model.name}' "
                f"does not take; use model {', '.join(sorted(SCALAR_MODELS))}"
            )
        if self.packed:
            _check_packed(self)
        if isinstance(self.model, AstConfig | SsastConfig):
            frames, bins = scaled(self.feature.shape, self.model.resize)
            patch_bins, patch_frames = self.model.patch_size
            if bins < patch_bins or frames < patch_frames:
                raise ValueError(
                    f"a patch of {patch_bins} bins x {patch_frames} frames does not fit a feature of {frames} frames x "
                    f"{bins} bins"
                )
        if self.optim.warmup_epochs and self.optim.warmup_epochs >= self.training.epochs:
            raise ValueError(
                f"optim.warmup_epochs: a warm-up of {self.optim.warmup_epochs} epochs leaves none of "
                f"{self.training.epochs} to train in; use at most {self.training.epochs - 1}"
            )
        if self.training.concat_scale and (self.task != "lungsound4" or self.feature.pad != "repeat"):
            raise ValueError(
                "training.concat_scale joins cycles of the four lung-sound classes that are padded by repetition: "
                f"it needs task lungsound4 and pad repeat, not {self.task} and {self.feature.pad}"
            )
        if self.training.event_scale and (self.task != "lungsound4" or self.feature.seconds < 2):
            raise ValueError(
                "training.event_scale makes cycles of crackles and wheezes: it needs task lungsound4 and at least two "
                f"seconds, not {self.task} and {self.feature.seconds:g} s"
            )
        if self.training.event_scale and (self.training.concat_scale or self.feature.scalars):
            raise ValueError(
                "training.event_scale makes cycles of maps, and is the only one to: set concat_scale to 0, and take a "
                "feature without scalars"
            )
        if self.training.concat_scale and (self.feature.copies or self.feature.channels):
            raise ValueError("training.concat_scale joins cycles of one map as they are: set feature.copies to 0")
        return self

    @classmethod
    def parse(cls, content: Any, where: str = "config") -> ExperimentConfig:
        """Validate a plain mapping.

        Raises:
            UserError: every wrong key and value by its path, with the nearest known name of an unknown key.
        """
        if not isinstance(content, dict):
            raise UserError(f"must be a mapping, not {type(content).__name__}", where=where)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(explain(error, cls), where=where) from error

    def content(self) -> dict[str, Any]:
        """What decides a result, as plain JSON values: without defaults, so that a new setting whose default keeps the
        old behaviour renames no finished result, and without a pretrained file's place."""
        dump = self.model_dump(mode="json", exclude_defaults=True)
        dump["feature"] = self.feature.feature_id
        pretrained = dump["model"].get("pretrained")
        if pretrained and pretrained.get("sha256"):
            del pretrained["file"]
        return dump

    @property
    def packed(self) -> bool:
        """Whether the model receives where each cycle's padding begins."""
        return bool(getattr(self.model, "packed", False))

    def own_frames(self, seconds: np.ndarray) -> np.ndarray:
        """Frames ``[cycles]`` of the feature before the padding of cycles of so many seconds begins, at least one."""
        frames = self.feature.shape[-2]
        return np.clip(np.round(seconds / self.feature.seconds * frames), 1, frames).astype(np.int64)

    @property
    def compat(self) -> list[str]:
        """The switched-on copies of a source system's defects, by their keys: shown wherever a number is.

        Every setting that is ``seed_compat`` is one, unless nothing asks for it.
        """
        parts = self.model_dump(include={"feature", "model", "objective", "augment"})
        on = {f"{part}.{key}" for part, dump in parts.items() for key, value in dump.items() if value == "seed_compat"}
        if self.augment.policy == "none":
            on.discard("augment.gate")
        if self.feature.pad == "stretch":
            on.add("feature.pad")
        return sorted(on)

    @property
    def config_hash(self) -> str:
        """16 hex digits over `content`."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_packed(config: ExperimentConfig) -> None:
    """What moves a cycle's own sound from the beginning, or mixes it with another's, does not go with it."""
    fits = {
        "feature.pad repeat or augment": config.feature.pad in {"repeat", "augment"},
        "feature.copies 0 or feature.copy_by noise": not config.feature.copies or config.feature.copy_by == "noise",
        "objective ce": config.objective.name == "ce",
        "augment.roll 0": not config.augment.roll,
        "training.concat_scale 0": not config.training.concat_scale,
        "training.event_scale 0": not config.training.event_scale,
    }
    for wanted, fit in fits.items():
        if not fit:
            raise ValueError(f"model.packed needs {wanted}: a cycle's own sound comes first, and padding after it")


def scaled(shape: tuple[int, ...], resize: float) -> tuple[int, int]:
    """Frames and bins of a feature after `resize`: each cut down to a whole number, as Patch-Mix does."""
    frames, bins = shape[-2:]
    return int(frames * resize), int(bins * resize)
