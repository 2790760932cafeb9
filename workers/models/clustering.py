"""Deep clustering of the groups of a cycle: soft assignments to learnt centres (Xie et al., 2016), a vector each."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.batch_norm import BatchNorm1d

FREEDOM = 1.0  # degrees of freedom of Student's t, `a` of the assignment


class Clustered(NamedTuple):
    """A batch with its groups assigned to clusters.

    Attributes:
        codes: ``[batch, groups, code]`` the encoder's.
        soft: ``[batch, groups, clusters]`` share of each cluster in each group, summing to 1 over clusters.
        vectors: ``[batch, clusters, code]`` one vector a cluster; zeros at initialisation where it has no group.
        features: ``[batch, code]`` the fused vectors.
    """

    codes: Tensor
    soft: Tensor
    vectors: Tensor
    features: Tensor


def soft_assignment(codes: Tensor, centres: Tensor) -> Tensor:
    """Student's t between codes ``[..., code]`` and centres ``[clusters, code]``, normalised: ``[..., clusters]``.

    q proportional to (1 + d^2 / a)^(-(a + 1) / 2) with a = 1, in float32 or better.
    """
    codes = codes.float() if codes.dtype != torch.float64 else codes
    distance = (codes.unsqueeze(-2) - centres.to(codes.dtype)).square().sum(dim=-1)
    closeness = (1 + distance / FREEDOM) ** (-(FREEDOM + 1) / 2)
    return closeness / closeness.sum(dim=-1, keepdim=True)


def sharpened(soft: Tensor) -> Tensor:
    """DEC's target: q^2 over the cluster's sum of q within the sample, normalised over clusters.

    Args:
        soft: ``[batch, groups, clusters]``.
    """
    weight = soft.square() / soft.sum(dim=1, keepdim=True)
    return weight / weight.sum(dim=-1, keepdim=True)


def hard_assignment(soft: Tensor) -> Tensor:
    """The likeliest cluster of each group as a mask, ``[batch, clusters, groups]`` of 0 and 1."""
    return F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).transpose(1, 2).to(soft.dtype)


class DeepClustering(nn.Module):
    """Groups ``[batch, groups, width]`` to `Clustered`: 380,467 parameters at the published size.

    A group's code is compared with the centres, which are drawn with a deviation of 1 in each of their numbers. As
    initialised, codes deviate by 0.02 from group to group, so that the shortest centre is the nearest one to every
    group: CycleGuardian compares them so, ``raw``. Codes that are ``standardized`` over the batch (in evaluation by
    running statistics) lie among the centres, which then begin with one length.

    The groups of a cluster, each weighted by its place in the cycle, are summed and turned into the cluster's vector,
    all clusters by the same layers. The vectors are fused by weights of the clusters (``conv``), or by a gate that
    looks at all of them (``gate``), which CycleGuardian constructs and does not use.

    Args:
        groups: in a cycle.
        width: of a group's state.
        clusters: centres.
        code: width of codes, cluster vectors and features.
        codes: as they are compared with the centres.
        fusion: of the cluster vectors.
    """

    def __init__(
        self,
        groups: int,
        width: int,
        *,
        clusters: int = 4,
        code: int = 128,
        codes: Literal["standardized", "raw"] = "standardized",
        fusion: Literal["conv", "gate"] = "conv",
    ) -> None:
        super().__init__()
        self.clusters, self.fusion = clusters, fusion
        self.encoder = nn.Sequential(nn.Linear(width, code), nn.ReLU())
        self.standard = BatchNorm1d(code, affine=False) if codes == "standardized" else nn.Identity()
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.ReLU())
        centres = torch.randn(clusters, code)
        self.centres = nn.Parameter(centres if codes == "raw" else F.normalize(centres) * code**0.5)
        self.similarity = nn.Parameter(torch.eye(code))
        self.place = nn.Conv1d(groups, 1, 1)
        self.gathered = nn.Sequential(nn.GELU(), nn.LayerNorm(width))
        self.vector = nn.Sequential(nn.Linear(width, code), nn.GELU(), nn.LayerNorm(code))
        self.fuse = nn.Sequential(nn.Conv1d(clusters, 1, 1), nn.GELU(), nn.LayerNorm(code))
        self.gate = nn.Linear(code, clusters * code, bias=False)

    def forward(self, groups: Tensor) -> Clustered:
        codes = self.encoder(groups)
        soft = soft_assignment(self.standard(codes.flatten(0, 1)).view_as(codes), self.centres)
        weight, offset = self.place.parameters()
        weighted = hard_assignment(soft) * weight.view(1, 1, -1)
        together = weighted.to(groups.dtype) @ groups + offset
        vectors = self.vector(self.gathered(together))
        return Clustered(codes, soft, vectors, self._fused(vectors))

    def _fused(self, vectors: Tensor) -> Tensor:
        if self.fusion == "conv":
            return self.fuse(vectors).squeeze(1)
        shares = self.gate(vectors.mean(dim=1)).view(vectors.shape).softmax(dim=1)
        return (shares * vectors).sum(dim=1)

    def reconstruction_error(self, codes: Tensor, groups: Tensor) -> Tensor:
        """Mean squared difference of decoded codes and the groups' states, which get no gradient by it; a scalar."""
        return F.mse_loss(self.decoder(codes), groups.detach())
