"""Files of weights, read without running code in them."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from feature_store.errors import UserError

State = dict[str, Tensor]
HARMLESS: list[Any] = [
    argparse.Namespace
]  # Patch-Mix keeps its command line in its checkpoints: names and values, no code


def read_weights(path: Path) -> State:
    """A state dict from a PyTorch or safetensors file, in float32 and without a data-parallel prefix.

    Raises:
        UserError: the file is damaged, is no state dict, holds values that are no numbers, or would run code when read.
    """
    return state_of(read_content(path), path)


def state_of(content: Any, path: Path) -> State:
    """The state dict that a file's content is, or wraps as ``model`` or ``state_dict``; see `read_weights`.

    Raises:
        UserError: it is none, or holds values that are no numbers.
    """
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


def read_content(path: Path) -> Any:
    """What a file holds, read by safetensors or by torch's unpickler of tensors, plain values and `HARMLESS` classes.

    Raises:
        UserError: the file is damaged, or would run code when read.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
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


def lacking(names: list[str], state: State, path: Path) -> UserError:
    """The error of a file without some of the names that the model needs."""
    return UserError(
        f"lacks {len(names)} of the entries that the model needs, the first: {', '.join(names[:3])}",
        where=str(path),
        hint=f"its own begin with {', '.join(list(state)[:3])}: is it a checkpoint of another model?",
    )


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as PyTorch's do, old or new; a web page or a pointer to a large file does not."""
    with path.open("rb") as file:
        return file.read(2) in {b"PK"} | {b"\x80" + bytes([protocol]) for protocol in range(2, 6)}
