"""A classifier of two inputs: maps through a backbone, and the scalars beside them through a network of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.inputs import Inputs, WithScalars
from workers.models.classifier import SoundClassifier, Task
from workers.models.front_end import FrontEnd


class TwoInputClassifier(SoundClassifier):
    """A `SoundClassifier` whose vector is the backbone's, and behind it what the scalars become.

    Args:
        front, backbone, head, feature_dim: as there; D counts both.
        scalars: numbers beside each cycle's maps.
        beside: ``[B, scalars]`` to a vector; None for a feature without scalars.
        standardizes: with the training side's mean and deviation of every scalar, which are kept with the weights.
    """

    scalar_mean: Tensor
    scalar_std: Tensor

    def __init__(
        self,
        front: FrontEnd,
        backbone: nn.Module,
        head: nn.Module,
        feature_dim: int,
        *,
        scalars: int,
        beside: nn.Module | None,
        standardizes: bool,
    ) -> None:
        super().__init__(front, backbone, head, feature_dim)
        self.beside, self.standardizes_scalars = beside, standardizes
        if beside is not None and standardizes:
            self.register_buffer("scalar_mean", torch.zeros(scalars))
            self.register_buffer("scalar_std", torch.ones(scalars))

    def set_scalar_statistics(self, scalars: Tensor) -> None:
        """Keep mean and standard deviation of ``[cycles, scalars]``; a scalar that never changes is only centred."""
        if self.beside is None or not self.standardizes_scalars:
            return
        std, mean = torch.std_mean(scalars.double(), dim=0, correction=0)
        self.scalar_mean.copy_(mean)
        self.scalar_std.copy_(torch.where(std > 0, std, 1.0))

    def features(self, x: Inputs) -> Tensor:
        """Maps ``[B, C, T, F]`` and, where the model has a network for them, scalars, to ``[B, D]``."""
        values, scalars = x if isinstance(x, WithScalars) else (x, None)
        maps = self.backbone(self.front(values))
        if self.beside is None:
            return maps
        assert scalars is not None, "the model was built for a feature with scalars"
        if self.standardizes_scalars:
            scalars = (scalars - self.scalar_mean) / self.scalar_std
        return torch.cat([maps, self.beside(scalars)], dim=1)


def join(
    task: Task,
    backbone: nn.Module,
    feature_dim: int,
    branch: Callable[[int], nn.Module],
    branch_dim: int,
    head: Callable[[int], nn.Module],
    *,
    standardizes: bool,
) -> TwoInputClassifier:
    """A classifier for a task, which has a branch only where the task's feature has scalars.

    Args:
        task: what it is for.
        backbone: ``[B, C, T, F]`` to ``[B, feature_dim]``.
        branch: makes, from a number of scalars, ``[B, scalars]`` to ``[B, branch_dim]``.
        head: makes, from a width, ``[B, width]`` to logits.
        standardizes: see `TwoInputClassifier`.
    """
    beside = branch(task.scalars) if task.scalars else None
    width = feature_dim + (branch_dim if task.scalars else 0)
    return TwoInputClassifier(
        task.front, backbone, head(width), width, scalars=task.scalars, beside=beside, standardizes=standardizes
    )


def with_one_logit(head: Callable[[int], nn.Sequential], classes: int) -> nn.Sequential:
    """A head for so many classes. For two it has one output, as the breathing-phase classifier has: see `OneLogit`."""
    return head(1).append(OneLogit()) if classes == 2 else head(classes)


class OneLogit(nn.Module):
    """One logit z ``[B, 1]`` as two, ``[0, z]``: their softmax is 1 - sigmoid(z) and sigmoid(z), of classes 0 and 1.

    The cross entropy of the two is then the binary cross entropy of z, also for soft labels.
    """

    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], dim=1)
