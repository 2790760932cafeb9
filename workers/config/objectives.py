"""Settings of the objectives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workers.config.base import Part

ClassWeights = Literal["none", "inverse", "sqrt_inverse"]


class WeightedPart(Part):
    class_weights: ClassWeights = Field(
        default="none", description="of the cross entropy: one over the class' training cycles, or over their root"
    )


class MixPart(WeightedPart):
    mix_beta: float = Field(default=1.0, ge=0, description="lambda ~ Beta(b, b); 0 means no mixing")
    domain: Literal["patch", "time"] = Field(default="patch", description="Patch or TPatch: whole time columns")


class CeConfig(WeightedPart):
    """Cross entropy."""

    name: Literal["ce"]
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class PatchMixConfig(MixPart):
    """Patch-Mix with mixed cross entropy (Bae et al., 2023)."""

    name: Literal["patchmix"]


class PatchMixClConfig(MixPart):
    """Patch-Mix contrastive learning (Bae et al., 2023): CE on the clean batch + alpha * contrastive loss."""

    name: Literal["patchmix_cl"]
    alpha: float = Field(default=1.0, ge=0, description="weight of the contrastive loss")
    tau: float = Field(default=0.06, gt=0, description="temperature")
    negative_pair: Literal["all", "diff_label"] = "all"
    target_type: Literal["grad_block", "grad_flow", "project_block", "project_flow"] = "grad_block"
    proj_dim: int | None = Field(
        default=None,
        ge=1,
        description="output of the projector; null: as wide as the model's features (768 for AST base)",
    )


ObjectiveConfig = Annotated[CeConfig | PatchMixConfig | PatchMixClConfig, Field(discriminator="name")]
TOKEN_OBJECTIVES = frozenset({"patchmix", "patchmix_cl"})
