"""Weights of published vision and audio transformers under the names and in the sizes of `AstBackbone`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.models.ast import PREFIX, AstBackbone
from workers.models.load_report import LoadReport
from workers.models.weight_file import State, lacking

Layout = Literal["correct", "seed_compat"]
PARTS = ("weight", "bias")
AUDIOSET_ROWS = 12  # of frequency, in AST's AudioSet checkpoints
PRETRAINING_INPUT = ("p_input_fdim", "p_input_tdim")  # SSAST's: bins and frames


def transformer_state(state: State, backbone: AstBackbone, report: LoadReport, path: Path, layout: Layout) -> State:
    """A DeiT, AudioSet-AST, SSAST or DINOv2 state for a backbone. What has no place in it goes to the report.

    Raises:
        UserError: it is none of these, or its patches or positions do not fit.
    """
    pretraining = tuple(int(state[name]) for name in PRETRAINING_INPUT if name in state)
    audio = any(name.startswith("v.") for name in state)
    report.left_over += [name for name in state if audio and not name.startswith("v.")]
    state = {name.removeprefix("v."): value for name, value in state.items() if not audio or name.startswith("v.")}
    if "pos_embed" not in state or "patch_embed.proj.weight" not in state:
        raise UserError(
            "is no DeiT, AST, SSAST or DINOv2 checkpoint: it has no pos_embed or patch_embed",
            where=str(path),
            hint=f"its keys begin with {', '.join(list(state)[:3])}",
        )
    depth = len(backbone.blocks)
    adapted = {name: value for name, value in state.items() if _block(name) < depth}
    report.left_over += [name for name in state if _block(name) >= depth]
    _fold_scales(adapted, report, path)

    kernel, table = adapted.pop("patch_embed.proj.weight"), adapted["pos_embed"]
    size = (backbone.patch_embed.kernel_size[0], backbone.patch_embed.kernel_size[1])
    adapted["patch_embed.weight"] = _fitted_kernel(kernel, size, rigid=bool(pretraining), path=path)
    adapted["patch_embed.bias"] = adapted.pop("patch_embed.proj.bias")
    if "dist_token" not in adapted:
        adapted["dist_token"] = adapted["cls_token"].clone()
        report.adapted.append("dist_token")
    if pretraining or not audio or table.shape[1] != PREFIX + backbone.grid[0] * backbone.grid[1]:
        source = _grid_of(table, audio, (pretraining[0] // size[0], pretraining[1] // size[1]) if pretraining else None)
        if source is None:
            raise UserError(
                f"its position table of {table.shape[1]} rows fits no grid of patches",
                where=str(path),
                hint="known are square pictures, AudioSet-AST's 12 rows of frequency and SSAST's pretraining input, "
                "after one or two extra tokens",
            )
        adapted["pos_embed"] = position_table(table, source, backbone.grid, layout=layout)
    for name, before in (("patch_embed.weight", kernel), ("pos_embed", table)):
        if not torch.equal(adapted[name], before):
            report.adapted.append(name)
    return adapted


def _block(name: str) -> int:
    """Number of the transformer block that a key belongs to; -1 outside of them."""
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _fold_scales(state: State, report: LoadReport, path: Path) -> None:
    """LayerScale's gammas multiplied into the linear layer before each: gamma * (W x + b), exactly."""
    gammas = [name for name in state if re.search(r"\.ls[12]\.gamma$", name)]
    scaled = {name: name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2") for name in gammas}
    needed = ["patch_embed.proj.bias", "cls_token", *(f"{layer}.{p}" for layer in scaled.values() for p in PARTS)]
    absent = [name for name in needed if name not in state]
    if absent:
        raise lacking(absent, state, path)
    for gamma, layer in scaled.items():
        scale = state.pop(gamma)
        for part in PARTS:
            name = f"{layer}.{part}"
            state[name] = state[name] * scale.reshape(-1, *[1] * (state[name].dim() - 1))
            report.adapted.append(name)


# --- patches ---


def _fitted_kernel(kernel: Tensor, size: tuple[int, int], *, rigid: bool, path: Path) -> Tensor:
    """The kernel for patches of `size` (bins, frames); only square ones of a picture are resampled."""
    bins, frames = kernel.shape[-2:]
    if (bins, frames) != size and (rigid or bins != frames or size[0] != size[1]):
        raise UserError(
            f"its patches are {bins} bins x {frames} frames, the model's {size[0]} x {size[1]}",
            where=str(path),
            hint=f"use model ssast with patch_bins {bins} and patch_frames {frames}",
        )
    return patch_kernel(kernel, size[0]) if bins == frames else kernel.sum(dim=1, keepdim=True)


def patch_kernel(kernel: Tensor, side: int) -> Tensor:
    """A patch projection ``[D, channels, p, p]`` for one channel and patches of another side.

    Colours are summed: a grey picture then gives what it gave before. The kernel is resampled so that a picture
    resized with it projects to about the same (values are scaled by the ratio of areas).
    """
    kernel = kernel.sum(dim=1, keepdim=True)
    before = kernel.shape[-1]
    if before == side:
        return kernel
    resized = F.interpolate(kernel, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    return resized * (before / side) ** 2


# --- positions ---


def _grid_of(table: Tensor, audio: bool, pretrained: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows (frequency) and columns (time) of the grid that a position table was trained for."""
    for extra in (PREFIX, 1):
        count = table.shape[1] - extra
        side = round(max(0, count) ** 0.5)
        if pretrained:
            rows, columns = pretrained
        elif audio:
            rows, columns = AUDIOSET_ROWS, count // AUDIOSET_ROWS
        else:
            rows, columns = side, side
        if rows * columns == count > 0:
            return rows, columns
    return None


def position_table(
    table: Tensor, source: tuple[int, int], grid: tuple[int, int], *, layout: Layout = "correct"
) -> Tensor:
    """A position table ``[1, extra + rows * columns, D]`` for another grid of patches: ``[1, 2 + tokens, D]``.

    An axis that shrinks is cropped around its centre, one that grows is interpolated, as AST does (Gong et al., 2021).
    A single extra token's position serves both cls and distillation.

    Args:
        table: of the file.
        source: its rows and columns of patches, in frequency and time.
        grid: the wanted ones.
        layout: ``seed_compat`` copies a defect of Patch-Mix' release, which gives AST its two sizes in the wrong order:
            the table is fitted to (time, frequency) patches, and its rows are then read as if it were the other way
            round. At 12 x 79 the positions then say nothing of time.
    """
    rows, columns = source
    extra = table.shape[1] - rows * columns
    patches = table[:, extra:].transpose(1, 2).reshape(1, -1, rows, columns)
    height, width = grid if layout == "correct" else grid[::-1]
    patches = _fit_axis(_fit_axis(patches, 2, height), 3, width)
    first = table[:, :extra] if extra == PREFIX else table[:, :1].expand(-1, PREFIX, -1)
    return torch.cat((first, patches.flatten(2).transpose(1, 2)), dim=1)


def _fit_axis(patches: Tensor, axis: int, size: int) -> Tensor:
    there = patches.shape[axis]
    if size <= there:
        return patches.narrow(axis, there // 2 - size // 2, size)
    shape = list(patches.shape[2:])
    shape[axis - 2] = size
    return F.interpolate(patches, size=tuple(shape), mode="bilinear", align_corners=False)
