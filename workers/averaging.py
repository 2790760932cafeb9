"""Averaging of weights over the steps of a training, by a few fused operations a step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from workers.config.training import AverageConfig


class Averaging:
    """Follows a module's weights from step to step. This base does nothing: it is the average ``none``."""

    def after_step(self) -> None:
        """To be called after every step of the optimiser."""

    @contextlib.contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Within this context the module holds the weights that are evaluated and kept; after it, the trained ones."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs beside the module's own state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state. Load the module's own state first."""


def build_averaging(config: AverageConfig, module: nn.Module) -> Averaging:
    """The averaging of a config, over everything in a module: parameters, and saved float buffers (batch statistics).

    Build it after the module stands on its device, with the weights that the training starts from.

    Args:
        config: which, and the share of the previous weights.
        module: the model, or a `ModuleList` of the model and its objective.
    """
    if config.name == "ema":
        return Ema(module, config.beta)
    if config.name == "live_blend":
        return LiveBlend(module, config.beta)
    return Averaging()


class Ema(Averaging):
    """Exponential moving average in a shadow: shadow = beta * shadow + (1 - beta) * live.

    The shadow is what is evaluated and kept; the training never sees it. Whole-number buffers are not averaged.
    """

    def __init__(self, module: nn.Module, beta: float) -> None:
        self.beta = beta
        self.names, self.live = _float_entries(module)
        self.shadow = [value.clone() for value in self.live]

    @torch.no_grad()
    def after_step(self) -> None:
        torch._foreach_lerp_(self.shadow, self.live, 1.0 - self.beta)

    @contextlib.contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """The module holds the shadow, copied in place; the trained weights come back even after an error."""
        with torch.no_grad():
            trained = [value.clone() for value in self.live]
            torch._foreach_copy_(self.live, self.shadow)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.live, trained)

    def state_dict(self) -> dict[str, Any]:
        """The shadow by the names of the module's entries."""
        return {"shadow": dict(zip(self.names, self.shadow, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved shadow.

        Raises:
            ValueError: it belongs to another module.
        """
        saved = state["shadow"]
        if saved.keys() != set(self.names):
            odd = sorted(saved.keys() ^ set(self.names))
            raise ValueError(f"the saved shadow is another module's: they differ in {odd[0]} and {len(odd) - 1} more")
        for name, value in zip(self.names, self.shadow, strict=True):
            value.copy_(saved[name])


class LiveBlend(Averaging):
    """Patch-Mix' "moving average": after a step the live weights become beta * previous + (1 - beta) * new.

    It is no shadow: the training goes on from the blend, so that beta = 0.5 halves every update. The weights before the
    step are kept in one list that is brought up to date after it.
    """

    def __init__(self, module: nn.Module, beta: float) -> None:
        self.beta = beta
        _, self.live = _float_entries(module)
        self.previous = [value.clone() for value in self.live]

    @torch.no_grad()
    def after_step(self) -> None:
        torch._foreach_lerp_(self.live, self.previous, self.beta)
        torch._foreach_copy_(self.previous, self.live)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Between steps the previous weights are the module's own, so nothing else is saved."""
        torch._foreach_copy_(self.previous, self.live)


def _float_entries(module: nn.Module) -> tuple[list[str], list[Tensor]]:
    """Names and tensors of the floating entries of a module's state, each tensor once."""
    entries: dict[int, tuple[str, Tensor]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            entries.setdefault(id(value), (name, value.detach()))
    return [name for name, _ in entries.values()], [value for _, value in entries.values()]
