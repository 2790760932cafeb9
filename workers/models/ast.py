"""Audio Spectrogram Transformers (Gong et al., 2021, 2022): patches of the spectrogram as tokens of a ViT."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config.models import AstConfig, SsastConfig
from workers.models.classifier import SoundClassifier, Task


def build(config: AstConfig | SsastConfig, task: Task) -> AstClassifier:
    """The transformer of a config, with layer normalisation before the head's linear layer."""
    backbone = AstBackbone(
        task.front.size,
        size=config.size,
        depth=config.depth,
        patch=config.patch_size,
        stride=config.stride,
        drop_path=config.drop_path,
        pool=config.pool if isinstance(config, SsastConfig) else "cls",
    )
    width = backbone.feature_dim
    head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, task.classes))
    return AstClassifier(task.front, backbone, head, width)


class Size(NamedTuple):
    """A DeiT backbone (Touvron et al., 2021)."""

    width: int
    heads: int


SIZES = {"tiny": Size(192, 3), "small": Size(384, 6), "base": Size(768, 12)}
PREFIX = 2  # the cls and the distillation token


class AstBackbone(nn.Module):
    """``[B, 1, T, F]`` to ``[B, D]``: the mean of the cls and the distillation output, or of the patches' outputs.

    The spectrogram is read as [frequency, time]; a token's index is ``time patches * f + t``. At 798 frames x 128 bins
    with patches of 16 x 16 and stride 10 there are 12 x 79 = 948 tokens, and `base` has 85,984,512 parameters.

    Args:
        shape: frames and bins of the feature.
        size: ``tiny``, ``small`` or ``base``.
        depth: transformer blocks.
        patch: bins and frames of a patch.
        stride: between patches, in bins and frames alike.
        drop_path: rate of stochastic depth at the last block, rising linearly from 0.
        pool: ``cls`` as AST, or ``avgtok`` as SSAST.

    Raises:
        UserError: the feature is smaller than a patch.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        size: str,
        depth: int,
        patch: tuple[int, int],
        stride: int,
        drop_path: float,
        pool: Literal["cls", "avgtok"] = "cls",
    ) -> None:
        super().__init__()
        frames, bins = shape[-2:]
        if bins < patch[0] or frames < patch[1]:
            raise UserError(
                f"a patch of {patch[0]} bins x {patch[1]} frames does not fit a feature of {frames} frames x {bins} "
                "bins",
                where="model",
            )
        width, heads = SIZES[size]
        self.feature_dim = width
        self.grid = ((bins - patch[0]) // stride + 1, (frames - patch[1]) // stride + 1)
        self.pool = pool
        count = self.grid[0] * self.grid[1]
        self.patch_embed = nn.Conv2d(1, width, patch, stride)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, count + PREFIX, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        rates = [drop_path * index / max(1, depth - 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm, drop_path=rate)  # type: ignore[arg-type]
            for rate in rates
        )
        self.norm = norm(width)
        for table in (self.cls_token, self.dist_token, self.pos_embed):
            trunc_normal_(table, std=0.02)
        self.apply(_initialise)

    def tokens(self, x: Tensor) -> Tensor:
        """Patch embeddings ``[B, N, D]``, before positions and the two extra tokens: where Patch-Mix mixes."""
        return self.patch_embed(x.transpose(2, 3)).flatten(2).transpose(1, 2)

    def encode(self, tokens: Tensor) -> Tensor:
        """Patch embeddings ``[B, N, D]`` to ``[B, D]``."""
        batch = len(tokens)
        extra = (token.expand(batch, -1, -1) for token in (self.cls_token, self.dist_token))
        x = torch.cat((*extra, tokens), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        pooled = x[:, :PREFIX] if self.pool == "cls" else x[:, PREFIX:]
        return self.norm(pooled).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.tokens(x))


class AstClassifier(SoundClassifier):
    """A classifier whose backbone has tokens to mix."""

    backbone: AstBackbone

    @property
    def grid(self) -> tuple[int, int]:
        """Patches in frequency and in time."""
        return self.backbone.grid

    def tokens(self, x: Tensor) -> Tensor:
        """Those of the standardised and resized feature: see `AstBackbone.tokens`."""
        return self.backbone.tokens(self.front(x))

    def encode(self, tokens: Tensor) -> Tensor:
        """See `AstBackbone.encode`."""
        return self.backbone.encode(tokens)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
