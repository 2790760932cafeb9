"""Losses on clustered groups: DEC's divergence, CycleGuardian's similarity constraint, and the clusters in use."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workers.models.clustering import sharpened
from workers.objectives.base import full_precision

TINY = 1e-10


def clustering_loss(
    soft: Tensor, *, reduction: Literal["mean", "sum"] = "mean", target_gradient: bool = False
) -> Tensor:
    """KL(p || q) of DEC, where p is the sharpened q: the sum of p log(p / q) over clusters, a scalar.

    Args:
        soft: ``[batch, groups, clusters]`` q.
        reduction: over groups and samples. CycleGuardian sums, so that its weight means more in a larger batch.
        target_gradient: let a gradient through p as well, as CycleGuardian does; DEC holds p fixed.
    """
    target = sharpened(soft) if target_gradient else sharpened(soft.detach())
    divergence = (target * (target / (soft + TINY)).log()).sum(dim=-1)
    return divergence.sum() if reduction == "sum" else divergence.mean()


def similarity_loss(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Sum over pairs of clusters of the batch mean of |x' M y| / (|M x| |M y|); with M the identity, of |cos(x, y)|.

    Args:
        vectors: ``[batch, clusters, dim]``; a cluster of zeros is similar to none.
        matrix: ``[dim, dim]`` M, learnt.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, matrix = full_precision(vectors), full_precision(matrix)
        turned = vectors @ matrix.T
        lengths = turned.norm(dim=-1)
        products = (vectors @ turned.transpose(1, 2)).abs() / (lengths[:, :, None] * lengths[:, None] + TINY)
        first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1, device=vectors.device)
        return products[:, first, second].mean(dim=0).sum()


def clusters_in_use(soft: Tensor) -> Tensor:
    """How many clusters a batch uses: exp of the entropy of their shares of its groups, from 1 (collapsed) to all.

    Args:
        soft: ``[batch, groups, clusters]``; each group counts for its likeliest cluster.
    """
    counts = torch.bincount(soft.argmax(dim=-1).flatten(), minlength=soft.shape[-1]).double()
    shares = counts / counts.sum()
    return torch.special.entr(shares).sum().exp().float()
