"""Files of pretrained weights: read without running code in them, and adapted to the model, key by key."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.models.ast import PREFIX, AstBackbone

State = dict[str, Tensor]
PARTS = ("weight", "bias")
NO_PLACE = re.compile(  # heads of other tasks, PANNs' front end, the mask of a pretraining
    r"(head|head_dist|mlp_head|pre_logits|classifier\.5|fc1|fc_audioset|bn0|spectrogram_extractor|logmel_extractor)\."
    r"|mask_token$"
)


@dataclass
class LoadReport:
    """What became of every key.

    Attributes:
        used: taken as they are.
        adapted: resampled, summed or folded to fit.
        missing: of the backbone, and not in the file; they keep their initial values.
        left_over: in the file, and of no use here (heads of another task, deeper blocks).
    """

    used: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)


def read_weights(path: Path) -> State:
    """A state dict from a PyTorch or safetensors file, in float32 and without a data-parallel prefix.

    Raises:
        UserError: the file is damaged, is no state dict, holds values that are no numbers, or would run code when read.
    """
    content = _read(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(
            "is no state dict: a mapping of names to tensors",
            where=str(path),
            hint="save it so: torch.save(model.state_dict(), file)",
        )
    state = {str(name).removeprefix("module."): value.float() for name, value in content.items()}
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"has values that are no numbers in {len(broken)} tensors, the first: {broken[0]}",
            where=str(path),
            hint="fetch the file again",
        )
    return state


def _read(path: Path) -> Any:
    """What a file holds, read by torch's unpickler of tensors alone or by safetensors."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many classes for a damaged file
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise UserError(
                "holds more than weights, and reading it could run code",
                where=str(path),
                hint="save its state_dict alone: torch.save(model.state_dict(), file)",
            ) from error
        reason = (str(error).splitlines() or ["it is cut short"])[0][:100]
        raise UserError(
            "is damaged or no file of weights",
            where=str(path),
            hint=f"fetch the file again ({type(error).__name__}: {reason})",
        ) from error


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as PyTorch's do, old or new; a web page or a pointer to a large file does not."""
    with path.open("rb") as file:
        return file.read(2) in {b"PK"} | {b"\x80" + bytes([protocol]) for protocol in range(2, 6)}


def load_pretrained(backbone: nn.Module, path: Path) -> LoadReport:
    """Put a file's weights into a backbone: a published file's, or a model's that lungtune saved, without its head.

    Args:
        backbone: as initialised.
        path: the file.

    Raises:
        UserError: a key of the backbone is missing in the file or has another shape, or the file holds something that
            the backbone has no place for, such as the register tokens of another transformer.
    """
    report = LoadReport()
    state = read_weights(path)
    if any(name.startswith("backbone.") for name in state):  # lungtune's own
        state = {name.removeprefix("backbone."): value for name, value in state.items()}
    elif isinstance(backbone, AstBackbone):
        state = _transformer_state(state, backbone, report, path)
    own = backbone.state_dict()
    matched: State = {}
    for name, value in own.items():
        if name not in state:
            report.missing.append(name)
        elif state[name].shape != value.shape:
            raise UserError(
                f"'{name}' has shape {list(state[name].shape)}, the model needs {list(value.shape)}",
                where=str(path),
                hint="is it the checkpoint of another size or width? set the model's to fit",
            )
        else:
            matched[name] = state[name].to(value.dtype)
            if name not in report.adapted:
                report.used.append(name)
    extra = [name for name in state if name not in own]
    report.left_over += extra
    wanting = [name for name in report.missing if not name.endswith("num_batches_tracked")]
    if wanting:
        raise _lacking(wanting, state, path)
    unknown = [name for name in extra if not NO_PLACE.match(name)]
    if unknown:
        raise UserError(
            f"has {len(unknown)} entries that the model has no place for, the first: {', '.join(unknown[:3])}",
            where=str(path),
            hint="is it a checkpoint of another model? set the model's name and size to fit",
        )
    backbone.load_state_dict(matched, strict=False)
    return report


def _lacking(names: list[str], state: State, path: Path) -> UserError:
    return UserError(
        f"lacks {len(names)} of the entries that the model needs, the first: {', '.join(names[:3])}",
        where=str(path),
        hint=f"its own begin with {', '.join(list(state)[:3])}: is it a checkpoint of another model?",
    )


# --- vision and audio transformers ---


def _transformer_state(state: State, backbone: AstBackbone, report: LoadReport, path: Path) -> State:
    """DeiT, AudioSet-AST or DINOv2 weights under the backbone's names, in its sizes."""
    audio = any(name.startswith("v.") for name in state)
    report.left_over += [name for name in state if audio and not name.startswith("v.")]
    state = {name.removeprefix("v."): value for name, value in state.items() if not audio or name.startswith("v.")}
    if "pos_embed" not in state or "patch_embed.proj.weight" not in state:
        raise UserError(
            "is no DeiT, AST or DINOv2 checkpoint: it has no pos_embed or patch_embed",
            where=str(path),
            hint=f"its keys begin with {', '.join(list(state)[:3])}",
        )
    depth = len(backbone.blocks)
    adapted = {name: value for name, value in state.items() if _block(name) < depth}
    report.left_over += [name for name in state if _block(name) >= depth]
    scaled = _scaled_layers(adapted)
    needed = ["patch_embed.proj.bias", "cls_token", *(f"{layer}.{p}" for layer in scaled.values() for p in PARTS)]
    lacking = [name for name in needed if name not in adapted]
    if lacking:
        raise _lacking(lacking, state, path)
    for gamma, layer in scaled.items():  # gamma * (W x + b), exactly
        scale = adapted.pop(gamma)
        for part in PARTS:
            name = f"{layer}.{part}"
            adapted[name] = adapted[name] * scale.reshape(-1, *[1] * (adapted[name].dim() - 1))
            report.adapted.append(name)
    kernel = adapted.pop("patch_embed.proj.weight")
    adapted["patch_embed.weight"] = patch_kernel(kernel, backbone.patch_embed.kernel_size[0])
    adapted["patch_embed.bias"] = adapted.pop("patch_embed.proj.bias")
    if "dist_token" not in adapted:
        adapted["dist_token"] = adapted["cls_token"].clone()
        report.adapted.append("dist_token")
    adapted["pos_embed"] = position_table(adapted["pos_embed"], backbone.grid, audio=audio, path=path)
    report.adapted += ["patch_embed.weight", "pos_embed"]
    return adapted


def _block(name: str) -> int:
    """Number of the transformer block that a key belongs to; -1 outside of them."""
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _scaled_layers(state: State) -> dict[str, str]:
    """LayerScale's gammas, and the linear layer before each."""
    gammas = [name for name in state if re.search(r"\.ls[12]\.gamma$", name)]
    return {name: name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2") for name in gammas}


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


def position_table(table: Tensor, grid: tuple[int, int], *, audio: bool, path: Path) -> Tensor:
    """A position table ``[1, prefix + h * w, D]`` for another grid of patches (frequency, time).

    An axis that shrinks is cropped around its centre, one that grows is interpolated, as AST does (Gong et al., 2021).
    A picture's grid is square; AudioSet-AST's has 12 rows of frequency.

    Raises:
        UserError: the table's length fits no grid.
    """
    rows = 12 if audio else None
    prefix = next((p for p in (PREFIX, 1) if _side(table.shape[1] - p, rows) is not None), None)
    if prefix is None:
        raise UserError(
            f"its position table of {table.shape[1]} rows fits no grid of patches",
            where=str(path),
            hint="known are square pictures, and AudioSet-AST's 12 rows of frequency, after one or two extra tokens",
        )
    height, width = _side(table.shape[1] - prefix, rows) or (0, 0)
    patches = table[:, prefix:].transpose(1, 2).reshape(1, -1, height, width)
    patches = _fit_axis(_fit_axis(patches, 2, grid[0]), 3, grid[1])
    extra = table[:, :prefix] if prefix == PREFIX else table[:, :1].expand(-1, PREFIX, -1)
    return torch.cat((extra, patches.flatten(2).transpose(1, 2)), dim=1)


def _side(count: int, rows: int | None) -> tuple[int, int] | None:
    """Rows and columns of a grid of `count` patches."""
    if rows is not None:
        return (rows, count // rows) if count % rows == 0 else None
    side = round(count**0.5)
    return (side, side) if side * side == count else None


def _fit_axis(patches: Tensor, axis: int, size: int) -> Tensor:
    there = patches.shape[axis]
    if size <= there:
        return patches.narrow(axis, there // 2 - size // 2, size)
    shape = list(patches.shape[2:])
    shape[axis - 2] = size
    return F.interpolate(patches, size=tuple(shape), mode="bilinear", align_corners=False)
