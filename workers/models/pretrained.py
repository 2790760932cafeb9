"""Files of pretrained weights: read without running code in them, put into a model, and accounted for key by key.

How the names and sizes of a published file become a model's is said beside each model, in its `fit`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from feature_store.errors import UserError

State = dict[str, Tensor]
_NOT_FOR_READING = re.compile(r"GLOBAL|unsupported (class|global)|not an allowed global", re.IGNORECASE)
_DAMAGED = (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError)


@dataclass
class Fit:
    """A file's entries under a model's names.

    Attributes:
        values: by the model's name.
        adapted: what was done to an entry that is not the file's own, by the model's name.
        left_over: the file's names that are known to have no place in the model.
    """

    values: State = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    left_over: list[str] = field(default_factory=list)


Layout = Callable[[nn.Module, State], Fit]


@dataclass(frozen=True)
class LoadReport:
    """What became of every key.

    Attributes:
        file: its name.
        used: the model's entries taken as they are in the file.
        adapted: the model's entries that were resampled, summed or folded to fit, and how.
        missing: the model's entries that keep their initial values: a new head.
        left_over: the file's entries that have no place here: another head, deeper blocks.
    """

    file: str
    used: tuple[str, ...]
    adapted: dict[str, str]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        counts = f"{len(self.used)} entries used, {len(self.adapted)} adapted"
        return f"{self.file}: {counts}; new: {_some(self.missing)}; left over: {_some(self.left_over)}"


def load_pretrained(model: nn.Module, path: Path, fit: Layout) -> LoadReport:
    """Put a file's weights into a model; a file that lungtune wrote itself fits every model of the same config.

    The head is taken over where the file's has the same shapes, and starts anew otherwise.

    Args:
        model: a `SoundClassifier`, initialised.
        path: the file.
        fit: turns the file's entries into the model's.

    Raises:
        UserError: the file cannot be read, or is of another model or size. The model is then as it was.
    """
    state = read_weights(path)
    try:
        own = any(name.startswith("backbone.") for name in state)
        fitted = Fit(values=dict(state)) if own else fit(model, state)
        return _load(model, fitted, path)
    except UserError as error:
        raise UserError(
            error.what, where=str(path), hint=error.hint or f"the file's keys begin with {_some(state)}"
        ) from error


def _load(model: nn.Module, fit: Fit, path: Path) -> LoadReport:
    wanted = model.state_dict()
    head = {name for name in wanted if name.startswith("head.")}
    left_over = list(fit.left_over)
    if any(name not in fit.values or fit.values[name].shape != wanted[name].shape for name in head):
        other_head = [name for name in fit.values if name.startswith("head.")]
        left_over += other_head
        for name in other_head:
            del fit.values[name]
    missing = [name for name in wanted if name not in fit.values and not name.endswith("num_batches_tracked")]
    lacking = [name for name in missing if name not in head]
    if lacking:
        raise UserError(f"lacks {len(lacking)} of the model's {len(wanted)} entries: {_some(lacking)}")
    unknown = [name for name in fit.values if name not in wanted]
    if unknown:
        raise UserError(
            f"has {len(unknown)} entries that the model has no place for: {_some(unknown)}",
            hint="it is of another model: set model.name and its sizes to fit, or model.pretrained to null",
        )
    for name, value in fit.values.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"'{name}' has shape {list(value.shape)}, the model needs {list(wanted[name].shape)}",
                hint="it is of another size or width: set the model's to fit",
            )
    model.load_state_dict(fit.values, strict=False)
    used = tuple(name for name in fit.values if name not in fit.adapted)
    return LoadReport(path.name, used, fit.adapted, tuple(missing), tuple(left_over))


def read_weights(path: Path) -> State:
    """A state dict from a PyTorch or safetensors file: half precision as float32, without a data-parallel prefix.

    Raises:
        UserError: the file is damaged, is no state dict, or would run code when read.
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
    state = {str(name).removeprefix("module."): _single(value) for name, value in content.items()}
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"has values that are not finite: {_some(broken)}", where=str(path), hint="fetch the file again")
    return state


def _read(path: Path):
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, *_DAMAGED) as error:
        if isinstance(error, pickle.UnpicklingError) and _NOT_FOR_READING.search(str(error)):
            raise UserError(
                "holds more than weights, and reading it could run code",
                where=str(path),
                hint="save its state dict alone: torch.save(model.state_dict(), file)",
            ) from error
        reason = (str(error).splitlines() or [""])[0][:100]
        raise UserError(
            "is damaged or no file of weights",
            where=str(path),
            hint=f"fetch the file again ({type(error).__name__}: {reason})",
        ) from error


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "") if names else "none"
