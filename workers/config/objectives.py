"""Settings of the objectives: one class each, with label and the module that builds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from workers.config.base import Experiment, NamedPart
from workers.config.models import models_that_take
from workers.config.part_classes import PartClasses

ClassWeights = Literal["none", "inverse", "sqrt_inverse"]
TargetType = Literal["grad_block", "grad_flow", "project_block", "project_flow"]


class ObjectivePart(NamedPart):
    """Base of the objectives' settings. Its `build` is that of `workers.objectives.build_objective`."""


class WeightedPart(ObjectivePart):
    class_weights: ClassWeights = Field(
        default="none", description="of the cross entropy: one over the class' training cycles, or over their root"
    )


class MixPart(WeightedPart):
    mix_beta: float = Field(default=1.0, ge=0, le=1000, description="lambda ~ Beta(b, b); 0 means no mixing")
    domain: Literal["patch", "time"] = Field(default="patch", description="Patch or TPatch: whole time columns")

    def check(self, config: Experiment) -> None:
        """Refuse a model without patch tokens."""
        if "tokens" not in config.model.takes:
            raise ValueError(
                f"objective '{self.name}' mixes patch tokens, which model '{config.model.name}' does not have; use "
                f"model {', '.join(models_that_take('tokens'))}, or objective ce"
            )


class CeConfig(WeightedPart):
    """Cross entropy."""

    label = "Cross entropy"
    module = "workers.objectives.cross_entropy"

    name: Literal["ce"]
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class PatchMixConfig(MixPart):
    """Patch-Mix with mixed cross entropy (Bae et al., 2023)."""

    label = "Patch-Mix"
    module = "workers.objectives.patch_mix"

    name: Literal["patchmix"]


class PatchMixClConfig(MixPart):
    """Patch-Mix contrastive learning (Bae et al., 2023): CE on the clean batch + alpha * contrastive loss."""

    label = "Patch-Mix CL"
    module = "workers.objectives.contrastive"

    name: Literal["patchmix_cl"]
    alpha: float = Field(default=1.0, ge=0, le=1e6, description="weight of the contrastive loss")
    tau: float = Field(default=0.06, gt=0, le=1e6, description="temperature")
    negative_pair: Literal["all", "diff_label"] = "all"
    target_type: TargetType = "grad_block"
    proj_dim: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="output of the projector; null: as wide as the model's features (768 for AST base)",
    )


class CutMixMixupConfig(ObjectivePart):
    """CutMix and Mixup in turns, with a cross entropy of soft labels (docs/specification.md, 5.5)."""

    label = "CutMix and mixup"
    module = "workers.objectives.cutmix_mixup"

    name: Literal["cutmix_mixup"]
    cutmix_prob: float = Field(default=0.5, ge=0, le=1, description="share of batches that CutMix mixes")
    mixup_prob: float = Field(default=0.5, ge=0, le=1, description="share of batches that Mixup mixes")
    cutmix_alpha: float = Field(default=1.0, ge=0, le=1000, description="lambda ~ Beta(a, a); 0 means no mixing")
    mixup_alpha: float = Field(default=0.2, ge=0, le=1000, description="the same for Mixup")
    plain_epochs: int = Field(default=0, ge=0, le=100_000, description="epochs before anything is mixed")
    cutmix_scalars: Literal["mixed", "seed_compat"] = Field(
        default="mixed", description="seed_compat: CutMix mixes maps and labels, and leaves the scalars as they are"
    )

    @model_validator(mode="after")
    def _sound(self) -> CutMixMixupConfig:
        if self.cutmix_prob + self.mixup_prob > 1 + 1e-9:
            raise ValueError(f"cutmix_prob {self.cutmix_prob:g} and mixup_prob {self.mixup_prob:g} are more than 1")
        return self


class CycleGuardianLossConfig(WeightedPart):
    """Deep clustering, similarity constraint and group-mix contrast beside the cross entropy.

    Specified in docs/specification.md, 3.4.
    """

    label = "CycleGuardian"
    module = "workers.objectives.cycleguardian"

    name: Literal["cycleguardian"]
    p_cluster: float = Field(
        default=1.0, ge=0, le=1e6, description="weight of the clustering divergence, clean + mixed"
    )
    p_contra: float = Field(default=0.5, ge=0, le=1e6, description="weight of the contrastive loss")
    p_cos_sim: float = Field(
        default=0.2, ge=0, le=1e6, description="weight of the similarity constraint, clean + mixed"
    )
    p_reconstruction: float = Field(
        default=0.0, ge=0, le=1e6, description="weight of the groups' reconstruction; 0 in the source"
    )
    cluster_reduction: Literal["mean", "sum"] = Field(
        default="mean", description="of the divergence over groups; sum, as the source: it grows with the batch"
    )
    cluster_target: Literal["fixed", "seed_compat"] = Field(
        default="fixed", description="seed_compat: the divergence's sharpened target gets a gradient too"
    )
    mix_beta: float = Field(default=1.0, ge=0, le=1000, description="lambda ~ Beta(b, b); 0 means no mixing")
    tau: float = Field(default=0.06, gt=0, le=1e6, description="temperature")
    negative_pair: Literal["all", "diff_label"] = "all"
    target_type: TargetType = "project_flow"
    proj_dim: int | None = Field(
        default=None, ge=1, le=65_536, description="output of the projector; null: the features' 128"
    )
    projector: Literal["trained", "seed_compat"] = Field(
        default="trained", description="seed_compat: the projector stays as it was initialised"
    )

    def check(self, config: Experiment) -> None:
        """Refuse a model without clusters."""
        if "clusters" not in config.model.takes:
            raise ValueError(
                f"objective '{self.name}' clusters groups of frames, which model '{config.model.name}' does not have; "
                f"use model {', '.join(models_that_take('clusters'))}, or another objective"
            )


OBJECTIVES = PartClasses(ObjectivePart, "lungtune.objectives", vars())
ObjectiveConfig = Annotated[ObjectivePart, PlainValidator(OBJECTIVES.validate), SerializeAsAny(), OBJECTIVES]
