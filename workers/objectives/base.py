"""What every objective is: a module that turns a batch into a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config.objectives import ClassWeights


@dataclass(frozen=True)
class Loss:
    """The loss of one batch.

    Attributes:
        total: scalar to differentiate.
        parts: its terms by name, detached, unweighted.
        logits: ``[batch, classes]``, detached: of the clean batch, or of the mixed one where there is no clean pass.
    """

    total: Tensor
    parts: dict[str, Tensor]
    logits: Tensor


class Objective(nn.Module, ABC):
    """A loss and, where the method has one, its mixing. Its parameters are trained and saved with the model's."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before each epoch, the first being 1, for methods that change on the way."""

    def notes(self, parts: dict[str, float]) -> list[str]:
        """What a reader has to know of an epoch with these means of `Loss.parts`; mostly nothing."""
        return []

    @abstractmethod
    def forward(self, model: nn.Module, x: Any, y: Tensor, generator: torch.Generator) -> Loss:
        """The loss of one augmented batch.

        Args:
            model: a `SoundClassifier` in training mode.
            x: ``[batch, channels, frames, bins]``, with scalars if the feature has any.
            y: ``[batch]`` class numbers, int64.
            generator: a CPU generator, the only source of random draws.
        """


def class_weights(counts: np.ndarray, rule: ClassWeights) -> Tensor | None:
    """Weights ``[classes]`` of a weighted cross entropy, summing to 1; None for the rule ``none``.

    ``inverse``: w_c = (1/n_c) / sum(1/n), as Patch-Mix weights its CE; ``sqrt_inverse``: the same over square roots.
    A class without a training cycle gets 0, since it never occurs in a loss.

    Args:
        counts: ``[classes]`` training cycles of each class.
        rule: how to weight.

    Raises:
        UserError: no class has a training cycle.
    """
    if rule == "none":
        return None
    counts = np.asarray(counts, dtype=np.float64)
    present = counts > 0
    if not present.any():
        raise UserError("no class has a training cycle, so there is nothing to weight", where="objective.class_weights")
    inverse = np.zeros_like(counts)
    inverse[present] = counts[present] ** (-1.0 if rule == "inverse" else -0.5)
    return torch.from_numpy(inverse / inverse.sum()).float()


def full_precision(values: Tensor) -> Tensor:
    """Half-precision values as float32: losses are never computed in less."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
