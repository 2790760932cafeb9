"""CycleGuardian's objective: cross entropy, deep clustering, similarity constraint, group-mix contrast.

Specified in docs/specification.md, 3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config.objectives import CycleGuardianLossConfig
from workers.objectives.base import Loss, Objective, class_weights, full_precision
from workers.objectives.clusters import clustering_loss, clusters_in_use, similarity_loss
from workers.objectives.contrastive import contrast_target, contrastive_loss, new_projector
from workers.objectives.patch_mix import mix_tokens

if TYPE_CHECKING:
    from workers.inputs import Inputs
    from workers.models.cycleguardian import GroupClassifier

COLLAPSED = 1.1  # clusters in use: below it one of them holds nearly all groups


def build(config: CycleGuardianLossConfig, feature_dim: int, class_counts: np.ndarray) -> CycleGuardianLoss:
    """The objective of a config."""
    return CycleGuardianLoss(config, feature_dim, class_counts)


class CycleGuardianLoss(Objective):
    """CE + p_cluster (KL clean + KL mixed) + p_contra CL + p_cos_sim (Sim clean + Sim mixed) + p_reconstruction MSE.

    Groups are mixed as Patch-Mix mixes tokens, after the encoder and before the clustering; the clean and the mixed
    groups are clustered as one batch. The cross entropy is the clean batch's alone. CL is Patch-Mix' contrast between
    the projected features of the mixed batch and those of the clean one, with its four target types. The source
    computes a reconstruction of the groups' states and leaves it unused; here it may have a weight.

    Beside the terms, `parts` has ``clusters_in_use`` (`clusters_in_use` of the clean batch).
    """

    def __init__(self, config: CycleGuardianLossConfig, feature_dim: int, class_counts: np.ndarray) -> None:
        super().__init__()
        self.config = config
        self.weights = {
            "ce": 1.0,
            "cluster": config.p_cluster,
            "contrastive": config.p_contra,
            "similarity": config.p_cos_sim,
            "reconstruction": config.p_reconstruction,
        }
        self.projector = new_projector(config.target_type, feature_dim, config.proj_dim)
        if config.projector == "seed_compat":
            self.projector.requires_grad_(False)
        self.cross_entropy = nn.CrossEntropyLoss(weight=class_weights(class_counts, config.class_weights))

    def forward(self, model: nn.Module, x: Inputs, y: Tensor, generator: torch.Generator) -> Loss:
        network = group_model(model)
        groups = network.tokens(cast(Tensor, x))
        mix = mix_tokens(groups, network.grid, self.config.mix_beta, "patch", generator)
        both = network.cluster(torch.cat([groups, mix.tokens]))
        soft, vectors, features = (part.chunk(2) for part in (both.soft, both.vectors, both.features))
        matrix = network.clustering.similarity
        logits = full_precision(network.head(features[0]))
        contrast = contrastive_loss(
            self.projector(features[1]),
            contrast_target(self.projector, features[0], self.config.target_type),
            mix.index,
            mix.lam,
            tau=self.config.tau,
            negative_pair=self.config.negative_pair,
            y=y,
        )
        parts = {
            "ce": self.cross_entropy(logits, y),
            "cluster": self._divergence(soft[0]) + self._divergence(soft[1]),
            "contrastive": contrast,
            "similarity": similarity_loss(vectors[0], matrix) + similarity_loss(vectors[1], matrix),
        }
        if self.config.p_reconstruction:
            clean = both.codes.chunk(2)[0]
            parts["reconstruction"] = network.clustering.reconstruction_error(clean, groups)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        shown = {name: part.detach() for name, part in parts.items()}
        return Loss(total, shown | {"clusters_in_use": clusters_in_use(soft[0].detach())}, logits.detach())

    def notes(self, parts: dict[str, float]) -> list[str]:
        """A warning where one cluster holds nearly all groups of the epoch."""
        if parts["clusters_in_use"] >= COLLAPSED:
            return []
        return [
            f"the clusters have collapsed: {parts['clusters_in_use']:.2f} in use; neither the clustering nor the "
            "similarity constraint says anything while one of them holds nearly all groups"
        ]

    def _divergence(self, soft: Tensor) -> Tensor:
        return clustering_loss(
            soft,
            reduction=self.config.cluster_reduction,
            target_gradient=self.config.cluster_target == "seed_compat",
        )


def group_model(model: nn.Module) -> GroupClassifier:
    """The model, known to cluster groups.

    Raises:
        UserError: it does not.
    """
    if not hasattr(model, "cluster"):
        hint = "use model cycleguardian, or another objective"
        raise UserError(f"{type(model).__name__} has no groups to cluster", where="objective", hint=hint)
    return cast("GroupClassifier", model)
