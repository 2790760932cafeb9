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
from workers.config.base import Part
from workers.config.explain import explain
from workers.config.models import MODELS, ModelConfig
from workers.config.objectives import OBJECTIVES, ObjectiveConfig
from workers.config.training import AugmentConfig, OptimConfig, TrainingConfig


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
        OBJECTIVES.check(self.objective, self)
        MODELS.check(self.model, self)
        for part in (self.augment, self.optim, self.training):
            part.check(self)
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
        old behaviour renames no finished result, and without a pretrained file's place. With `packages`, if any."""
        dump = self.model_dump(mode="json", exclude_defaults=True)
        dump["feature"] = self.feature.feature_id
        pretrained = dump["model"].get("pretrained")
        if pretrained and pretrained.get("sha256"):
            del pretrained["file"]
        return dump | ({"packages": packages} if (packages := self.packages) else {})

    @property
    def packages(self) -> dict[str, str]:
        """``{"model": "toy-package 1.0"}``: the other packages that parts are from. The digest of
        `workers.numbers_version` does not cover their code, so their versions decide a result, too.

        Raises:
            UserError: one of them is not installed here.
        """
        found = {"model": MODELS.package(self.model), "objective": OBJECTIVES.package(self.objective)}
        return {part: package for part, package in found.items() if package}

    @property
    def packed(self) -> bool:
        """Whether the model receives where each cycle's padding begins."""
        return self.model.takes_shares

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
