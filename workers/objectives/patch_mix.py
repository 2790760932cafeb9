"""Patch-Mix: tokens of one sample replaced by another's at the same places (Bae et al., 2023), with a mixed CE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config.objectives import PatchMixConfig
from workers.objectives.base import Loss, Objective, class_weights, full_precision

Domain = Literal["patch", "time"]


class TokenModel(Protocol):
    """The part of a patch-token classifier that mixing works on.

    Token ``t + time_patches * f`` covers frequency patch f and time patch t of ``grid = (frequency, time)``.
    """

    grid: tuple[int, int]

    def tokens(self, x: Tensor) -> Tensor: ...
    def encode(self, tokens: Tensor) -> Tensor: ...
    def head(self, features: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class MixDraw:
    """One random draw of Patch-Mix, shared by the whole batch. On the CPU.

    Attributes:
        index: ``[batch]`` the partner of each sample, a permutation; fixed points may occur.
        replaced: ``[tokens]`` bool, the positions that are taken from the partner.
        lam: float64 scalar, the share of tokens that stay: 1 - (replaced tokens / tokens).
    """

    index: Tensor
    replaced: Tensor
    lam: Tensor


@dataclass(frozen=True)
class Mix:
    """Mixed tokens, and where each of them came from.

    Attributes:
        tokens: ``[batch, tokens, dim]``: at `positions` those of sample ``index[i]``, elsewhere those of sample i.
        index: ``[batch]`` partners, on the device of the tokens.
        lam: float64 scalar on the CPU, the share of tokens that stayed.
        positions: ``[replaced]`` ascending token numbers, on the CPU.
    """

    tokens: Tensor
    index: Tensor
    lam: Tensor
    positions: Tensor


def draw_lambda(mix_beta: float, generator: torch.Generator) -> float:
    """One draw of Beta(mix_beta, mix_beta); 1 where mix_beta is 0.

    X / (X + Y) of two Gamma draws, in logarithms: Gamma(b) has the law of Gamma(b + 1) * U^(1/b), which neither
    underflows for a small b nor needs any other source of chance than the generator.
    """
    if mix_beta == 0:
        return 1.0
    shape = torch.full((2,), mix_beta + 1.0, dtype=torch.float64)
    gammas = torch._standard_gamma(shape, generator=generator)
    uniform = 1.0 - torch.rand(2, generator=generator, dtype=torch.float64)  # in (0, 1]
    logs = gammas.log() + uniform.log() / mix_beta
    return float(torch.sigmoid(logs[0] - logs[1]))


@torch.compiler.disable  # draws on the CPU are not part of a compiled step
def draw_mix(batch: int, grid: tuple[int, int], mix_beta: float, domain: Domain, generator: torch.Generator) -> MixDraw:
    """Draw one lambda, one permutation and one set of positions for a batch.

    ``patch``: int(tokens * (1 - lambda)) tokens anywhere; ``time`` (TPatch): int(columns * (1 - lambda)) whole columns
    of the grid. Lambda is then set to the share that really stays.

    Args:
        batch: samples.
        grid: patches over frequency and over time.
        mix_beta: both parameters of the Beta law; 0 draws lambda = 1, no mixing.
        domain: ``patch`` or ``time``.
        generator: a CPU generator.
    """
    frequencies, times = grid
    places = times if domain == "time" else frequencies * times
    lam = draw_lambda(mix_beta, generator)
    index = torch.randperm(batch, generator=generator)
    count = int(places * (1.0 - lam))
    replaced = torch.zeros(places, dtype=torch.bool)
    replaced[torch.randperm(places, generator=generator)[:count]] = True
    if domain == "time":
        replaced = replaced.repeat(frequencies)
    return MixDraw(index, replaced, torch.tensor(1.0 - count / places, dtype=torch.float64))


def mix_tokens(
    tokens: Tensor, grid: tuple[int, int], mix_beta: float, domain: Domain, generator: torch.Generator
) -> Mix:
    """Mix the tokens of a batch. The tokens given stay as they are.

    Args:
        tokens: ``[batch, frequency * time, dim]``, after the patch projection, before positions and class tokens.
        grid: patches over frequency and over time.
        mix_beta, domain, generator: see `draw_mix`.
    """
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill a grid of {grid[0]} x {grid[1]}")
    draw = draw_mix(len(tokens), grid, mix_beta, domain, generator)
    index = draw.index.to(tokens.device, non_blocking=True)
    replaced = draw.replaced.to(tokens.device, non_blocking=True)
    mixed = torch.where(replaced[None, :, None], tokens.index_select(0, index), tokens)
    return Mix(mixed, index, draw.lam, draw.replaced.nonzero().squeeze(1))


def token_model(model: nn.Module) -> TokenModel:
    """The model, known to have tokens.

    Raises:
        UserError: it has none.
    """
    if not hasattr(model, "tokens"):
        raise UserError(
            f"{type(model).__name__} has no patch tokens to mix",
            where="objective",
            hint="use model ast or ssast, or objective ce",
        )
    return cast(TokenModel, model)


def build(config: PatchMixConfig, feature_dim: int, class_counts: np.ndarray) -> PatchMix:
    """The objective of a config."""
    return PatchMix(config, class_counts)


class PatchMix(Objective):
    """lambda * CE(mixed, y) + (1 - lambda) * CE(mixed, y of the partner), in one pass; each CE weighted by itself."""

    def __init__(self, config: PatchMixConfig, class_counts: np.ndarray) -> None:
        super().__init__()
        self.config = config
        self.cross_entropy = nn.CrossEntropyLoss(weight=class_weights(class_counts, config.class_weights))

    def forward(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Loss:
        ast = token_model(model)
        mix = mix_tokens(ast.tokens(x), ast.grid, self.config.mix_beta, self.config.domain, generator)
        logits = full_precision(ast.head(ast.encode(mix.tokens)))
        lam = mix.lam.to(logits.dtype)
        loss = lam * self.cross_entropy(logits, y) + (1 - lam) * self.cross_entropy(logits, y[mix.index])
        return Loss(loss, {"mixed_ce": loss.detach()}, logits.detach())
