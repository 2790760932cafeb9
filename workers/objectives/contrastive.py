"""Patch-Mix contrastive learning (Bae et al., 2023): a mixed sample is drawn to both samples that it is made of."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d
from workers.config.objectives import PatchMixClConfig, TargetType
from workers.objectives.base import Loss, Objective, class_weights, full_precision
from workers.objectives.patch_mix import mix_tokens, token_model


class Projector(nn.Sequential):
    """Linear, batch normalisation, ReLU, Linear: 1,182,720 parameters at 768 -> 768."""

    def __init__(self, feature_dim: int, proj_dim: int) -> None:
        super().__init__(
            nn.Linear(feature_dim, feature_dim),
            BatchNorm1d(feature_dim),
            nn.ReLU(),
            nn.Linear(feature_dim, proj_dim),
        )


def new_projector(target_type: TargetType, feature_dim: int, proj_dim: int | None) -> Projector:
    """A projector to `proj_dim` values, or to as many as it is given.

    Raises:
        UserError: projections would be compared with features of another width.
    """
    width = proj_dim or feature_dim
    if target_type in ("grad_block", "grad_flow") and width != feature_dim:
        raise UserError(
            f"target_type '{target_type}' compares projections of {width} values with "
            f"the model's features of {feature_dim}",
            where="objective.proj_dim",
            hint=f"leave proj_dim out, set it to {feature_dim}, or use target_type project_block or project_flow",
        )
    return Projector(feature_dim, width)


def contrast_target(projector: nn.Module, clean: Tensor, target_type: TargetType) -> Tensor:
    """The clean side of the contrast, ``[batch, dim]``; see `PatchMixCl` for the target types."""
    if target_type == "project_flow":
        return projector(clean)
    if target_type == "project_block":
        with torch.no_grad():
            return projector(clean)
    return clean.detach() if target_type == "grad_block" else clean


def contrastive_loss(
    mixed: Tensor,
    target: Tensor,
    index: Tensor,
    lam: Tensor | float,
    *,
    tau: float,
    negative_pair: Literal["all", "diff_label"] = "all",
    y: Tensor | None = None,
) -> Tensor:
    """L_CL of Patch-Mix, a scalar, computed in float32 or better.

    With S the cosine similarities (mixed in rows, targets in columns) over tau, it is the mean over i of
    ``logsumexp_j S[i, j] - lam * S[i, i] - (1 - lam) * S[i, index[i]]``. Where ``index[i] = i`` the weights add up.

    Args:
        mixed: ``[batch, dim]`` projected features of the mixed samples.
        target: ``[batch, dim]`` representations of the clean samples.
        index: ``[batch]`` partner of each sample.
        lam: share of the sample's own tokens.
        tau: temperature, above 0.
        negative_pair: ``all``: j runs over the batch; ``diff_label``: over samples of another (unmixed) label than
            sample i's, and the two positives.
        y: ``[batch]`` labels, needed for ``diff_label``.
    """
    with torch.autocast(mixed.device.type, enabled=False):  # similarities over a small tau need their digits
        mixed, target = F.normalize(full_precision(mixed)), F.normalize(full_precision(target))
        similarity = mixed @ target.T / tau
        own = similarity.diagonal()
        partner = similarity.gather(1, index[:, None]).squeeze(1)
        if negative_pair == "diff_label":
            if y is None:
                raise ValueError("diff_label needs the labels")
            column = torch.arange(len(y), device=y.device)
            positive = (column == column[:, None]) | (column == index[:, None])
            similarity = similarity.masked_fill((y == y[:, None]) & ~positive, -torch.inf)
        return (similarity.logsumexp(dim=1) - lam * own - (1 - lam) * partner).mean()


def build(config: PatchMixClConfig, feature_dim: int, class_counts: np.ndarray) -> PatchMixCl:
    """The objective of a config."""
    return PatchMixCl(config, feature_dim, class_counts)


class PatchMixCl(Objective):
    """CE(clean, y) + alpha * L_CL(projector(mixed), target of clean).

    The clean and the mixed tokens pass the encoder as one batch. The projector sees clean and mixed features one after
    the other, as in the original, so that its batch statistics never cover both. Targets:

    | target_type | clean side | gradient into it |
    | --- | --- | --- |
    | `grad_block` | feature | no |
    | `grad_flow` | feature | yes |
    | `project_block` | projected feature | no |
    | `project_flow` | projected feature | yes |
    """

    def __init__(self, config: PatchMixClConfig, feature_dim: int, class_counts: np.ndarray) -> None:
        super().__init__()
        self.config = config
        self.projector = new_projector(config.target_type, feature_dim, config.proj_dim)
        self.cross_entropy = nn.CrossEntropyLoss(weight=class_weights(class_counts, config.class_weights))

    def forward(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Loss:
        ast = token_model(model)
        tokens = ast.tokens(x)
        mix = mix_tokens(tokens, ast.grid, self.config.mix_beta, self.config.domain, generator)
        clean, mixed = ast.encode(torch.cat([tokens, mix.tokens])).chunk(2)
        logits = full_precision(ast.head(clean))
        ce = self.cross_entropy(logits, y)
        target = contrast_target(self.projector, clean, self.config.target_type)
        contrast = contrastive_loss(
            self.projector(mixed),
            target,
            mix.index,
            mix.lam,
            tau=self.config.tau,
            negative_pair=self.config.negative_pair,
            y=y,
        )
        total = ce + self.config.alpha * contrast
        return Loss(total, {"ce": ce.detach(), "contrastive": contrast.detach()}, logits.detach())
