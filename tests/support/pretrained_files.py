"""Weights in the layouts of published files, made small, and a small transformer to put them into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor

from workers.config.models import AstConfig, SsastConfig
from workers.models import build_model
from workers.models.classifier import SoundClassifier


def tiny_ast(shape: tuple[int, int] = (98, 64), **changes: Any) -> SoundClassifier:
    torch.manual_seed(0)
    return build_model(AstConfig(**{"name": "ast", "size": "tiny", "depth": 2, **changes}), shape, 4).eval()


def tiny_ssast(shape: tuple[int, int] = (98, 64), **changes: Any) -> SoundClassifier:
    torch.manual_seed(0)
    return build_model(SsastConfig(**{"name": "ssast", "size": "tiny", "depth": 2, **changes}), shape, 4).eval()


def deit_state(depth: int = 2, grid: int = 24) -> dict[str, Tensor]:
    """timm's distilled DeiT at 384 pixels, with both 1000-way heads, made smaller."""
    torch.manual_seed(1)
    model = VisionTransformerDistilled(
        img_size=16 * grid, patch_size=16, embed_dim=192, depth=depth, num_heads=3, num_classes=1000
    )
    return {name: torch.randn_like(value) * 0.02 for name, value in model.state_dict().items()}


def audioset_state(depth: int = 2) -> dict[str, Tensor]:
    """AST's own AudioSet checkpoint: data-parallel prefix, one channel, 12 x 101 positions, a head of 527."""
    state = {f"module.v.{name}": value for name, value in deit_state(depth).items()}
    state["module.v.patch_embed.proj.weight"] = torch.randn(192, 1, 16, 16)
    state["module.v.pos_embed"] = torch.randn(1, 1214, 192)
    for layer, shape in (("0", (192,)), ("1", (527, 192))):
        state[f"module.mlp_head.{layer}.weight"] = torch.randn(shape)
        state[f"module.mlp_head.{layer}.bias"] = torch.randn(shape[0])
    return state


def ssast_state(patch: tuple[int, int] = (16, 16), depth: int = 2) -> dict[str, Tensor]:
    """SSAST's Patch-400 (16 x 16) or Frame-400 (128 x 2), pretrained on 128 bins x 1024 frames; with pretext heads."""
    area = patch[0] * patch[1]
    state = {f"module.v.{name}": value for name, value in deit_state(depth).items()}
    state["module.v.patch_embed.proj.weight"] = torch.randn(192, 1, *patch)
    state["module.v.pos_embed"] = torch.randn(1, 2 + 512, 192)
    state["module.p_input_fdim"], state["module.p_input_tdim"] = torch.tensor(128), torch.tensor(1024)
    state["module.mask_embed"] = torch.randn(1, 1, 192)
    for head, width in (("cpredlayer", area), ("gpredlayer", area)):
        state |= {f"module.{head}.0.weight": torch.randn(192, 192), f"module.{head}.0.bias": torch.randn(192)}
        state |= {f"module.{head}.2.weight": torch.randn(width, 192), f"module.{head}.2.bias": torch.randn(width)}
    return state


def coordinates(rows: int, columns: int, width: int = 192) -> Tensor:
    """A position table ``[1, 2 + rows * columns, width]`` whose first two values spell its own row and column."""
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
    table = torch.full((1, 2 + rows * columns, width), -1.0)
    table[0, 2:, :2] = place.reshape(-1, 2).float()
    return table


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path
