"""`ExperimentConfig`: everything that one training needs, in one typed model. No default lives elsewhere.

Nothing here imports torch, so that a thin driver or trial process can read a config.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from feature_store.errors import UserError, nearest
from feature_store.features import FeatureSpec, resolve_feature


class Part(BaseModel):
    """Base of every part of a config: unknown keys are refused, values are fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- models -----------------------------------------------------------------------------------------------------


class Pretrained(Part):
    """A file of pretrained weights. Its content counts for the config's hash, its place does not.

    A bare name is looked up in the weights folder (`LUNGTUNE_WEIGHTS`).
    """

    file: str
    sha256: str | None = Field(default=None, description="filled in by `lungtune` before anything runs")


class ModelPart(Part):
    pretrained: Pretrained | None = None

    @field_validator("pretrained", mode="before")
    @classmethod
    def _file_name(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class CnnConfig(ModelPart):
    """PANNs trunks (Kong et al., 2020): four blocks of one 5x5 (`cnn6`) or two 3x3 convolutions (`cnn10`)."""

    name: Literal["cnn6", "cnn10"]
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after each block; PANNs trains with 0.2")


class MnConfig(ModelPart):
    """MobileNetV3 for audio (EfficientAT, Schmid et al., 2023) with one input channel."""

    name: Literal["mn"]
    width: float = Field(default=0.4, gt=0, le=4, description="width multiplier: mn04 is 0.4")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in the classifier")


class CrnnConfig(ModelPart):
    """Three convolutions and a two-layer LSTM (SEEDS' credited CRNN)."""

    name: Literal["crnn"]
    hidden: int = Field(default=64, ge=1, le=1024)
    layers: int = Field(default=2, ge=1, le=8)
    bidirectional: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1, description="after each convolution")
    head_dropout: float = Field(default=0.3, ge=0, lt=1)


class AstConfig(ModelPart):
    """Audio Spectrogram Transformer (Gong et al., 2021) on a ViT/DeiT backbone of timm."""

    name: Literal["ast"]
    size: Literal["tiny", "small", "base"] = "base"
    depth: int = Field(default=12, ge=1, le=48, description="transformer blocks")
    patch: int = Field(default=16, ge=2, le=64, description="side of a square patch, in bins and frames")
    stride: int = Field(default=10, ge=1, le=64, description="step between patches, in bins and frames")
    drop_path: float = Field(default=0.0, ge=0, lt=1)


ModelConfig = Annotated[CnnConfig | MnConfig | CrnnConfig | AstConfig, Field(discriminator="name")]

# --- objectives -------------------------------------------------------------------------------------------------

ClassWeights = Literal["none", "inverse", "sqrt_inverse"]


class CeConfig(Part):
    """Cross entropy."""

    name: Literal["ce"]
    class_weights: ClassWeights = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class PatchMixConfig(Part):
    """Patch-Mix with mixed cross entropy (Bae et al., 2023)."""

    name: Literal["patchmix"]
    mix_beta: float = Field(default=1.0, ge=0, description="lambda ~ Beta(b, b); 0 means no mixing")
    domain: Literal["patch", "time"] = Field(default="patch", description="Patch or TPatch: whole time columns")


class PatchMixClConfig(Part):
    """Patch-Mix contrastive learning (Bae et al., 2023): CE on the clean batch + alpha * contrastive loss."""

    name: Literal["patchmix_cl"]
    alpha: float = Field(default=1.0, ge=0, description="weight of the contrastive loss")
    tau: float = Field(default=0.06, gt=0, description="temperature")
    mix_beta: float = Field(default=1.0, ge=0, description="lambda ~ Beta(b, b); 0 means no mixing")
    domain: Literal["patch", "time"] = Field(default="patch", description="Patch or TPatch: whole time columns")
    negative_pair: Literal["all", "diff_label"] = "all"
    target_type: Literal["grad_block", "grad_flow", "project_block", "project_flow"] = "grad_block"
    proj_dim: int | None = Field(
        default=None,
        ge=1,
        description="output of the projector; null: as wide as the model's features (768 for AST base)",
    )
    class_weights: ClassWeights = "none"


ObjectiveConfig = Annotated[CeConfig | PatchMixConfig | PatchMixClConfig, Field(discriminator="name")]
TOKEN_OBJECTIVES = frozenset({"patchmix", "patchmix_cl"})
TOKEN_MODELS = frozenset({"ast"})

# --- the rest ---------------------------------------------------------------------------------------------------


class AugmentConfig(Part):
    """SpecAugment (Park et al., 2019), on the device, for whole batches.

    A policy's widths are those published for 798 frames x 128 bins and are scaled to the feature's size.
    """

    policy: Literal["none", "icbhi_sup", "icbhi_ast_sup"] = "icbhi_ast_sup"
    fill: Literal["mean", "zero"] = "mean"


class OptimConfig(Part):
    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-6, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        default="cosine", description="cosine: set once an epoch, from lr to lr/1000; one_cycle: set once a step"
    )
    warmup_epochs: int = Field(default=0, ge=0, description="linear from lr/10, set once a step")
    clip_norm: float | None = Field(default=None, gt=0, description="largest gradient norm")


class AverageConfig(Part):
    """Averaging of weights: `ema` keeps a shadow that is evaluated; `live_blend` blends into the live model."""

    name: Literal["none", "ema", "live_blend"] = "none"
    beta: float = Field(default=0.5, ge=0, lt=1, description="share of the previous weights")


class TrainingConfig(Part):
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=8, ge=1)
    eval_batch_size: int = Field(default=64, ge=1)
    drop_last: bool = Field(default=True, description="drop the epoch's last, smaller batch")
    average: AverageConfig = AverageConfig()
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on GPU, fp32 on CPU")
    compile: bool = Field(default=False, description="torch.compile the step on GPU")
    validation_fraction: float = Field(
        default=0.15, gt=0, lt=0.5, description="share of the training side's patients held out to choose an epoch"
    )
    protocol: Literal["validation", "last"] = Field(
        default="last", description="whose epoch's weights are kept, and whose Score leads"
    )
    watch_test: bool = Field(default=False, description="also score the test side after every epoch (`test_best`)")


class ExperimentConfig(Part):
    """Everything one training needs, but for its data's place, split, fold and seed."""

    dataset: str = "icbhi"
    task: str = "lungsound4"
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
        if isinstance(self.model, AstConfig):
            frames, bins = self.feature.shape[-2:]
            if min(frames, bins) < self.model.patch:
                raise ValueError(
                    f"a patch of {self.model.patch} does not fit a feature of {frames} frames x {bins} bins"
                )
        if self.optim.warmup_epochs and self.optim.schedule == "one_cycle":
            raise ValueError("one_cycle has its own warm-up: set warmup_epochs to 0")
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
        """The config as plain JSON values, without what does not change a result (a pretrained file's place)."""
        dump = self.model_dump(mode="json")
        if dump["model"]["pretrained"] and dump["model"]["pretrained"]["sha256"]:
            del dump["model"]["pretrained"]["file"]
        return dump

    @property
    def config_hash(self) -> str:
        """16 hex digits over `content`."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error in a reader's words, one clause a problem."""
    clauses = []
    for problem in error.errors():
        path, parent = _follow(model, [str(step) for step in problem["loc"]])
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            clauses.append(f"unknown key '{key}' ({nearest(path[-1], _field_names(parent))})")
        elif problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            context = problem["ctx"]
            clauses.append(
                f"'{key}' needs a {context['discriminator']} out of {context.get('expected_tags', 'the known ones')}"
            )
        elif problem["type"] == "value_error":
            clauses.append(f"{key}: {problem['ctx']['error']}" if path else str(problem["ctx"]["error"]))
        else:
            clauses.append(f"'{key}' = {problem['input']!r}: {problem['msg'].lower()}")
    return "; ".join(clauses)


def _follow(model: Any, loc: list[str]) -> tuple[list[str], Any]:
    """An error's place as the user wrote it, without the tags of unions, and what holds its last key."""
    path: list[str] = []
    parent = here = model
    for step in loc:
        members = [member for member in getattr(here, "__args__", ()) if _tagged(member, step)]
        if members:
            here = members[0]
            continue
        path.append(step)
        parent = here
        field = getattr(here, "model_fields", {}).get(step)
        here = field.annotation if field is not None else None
    return path, parent


def _field_names(model: Any) -> list[str]:
    members = [model] if hasattr(model, "model_fields") else getattr(model, "__args__", ())
    return sorted({name for member in members for name in getattr(member, "model_fields", {})})


def _tagged(member: Any, tag: str) -> bool:
    fields = getattr(member, "model_fields", {})
    return any(tag in getattr(fields[key].annotation, "__args__", ()) for key in ("name", "kind") if key in fields)
