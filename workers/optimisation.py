"""Optimisers, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from workers.config.training import OptimConfig

COSINE_DECAYS = 3  # the cosine ends at lr * decay_rate^3
WARMUP_START = 0.1  # the warm-up begins at lr / 10
RISE, START, END = 0.3, 1 / 25, 1 / 25 / 1e4  # of one_cycle, as in PyTorch: share of steps that rise, ends over lr


def build_optimizer(
    config: OptimConfig, parameters: Iterable[nn.Parameter], device: torch.device | str
) -> torch.optim.Optimizer:
    """The optimiser of a config; one fused kernel a step on CUDA.

    Weight decay is L2 (added to the gradient) for adam and sgd, decoupled for adamw.

    Args:
        config: which, its rate and its decay.
        parameters: frozen ones are left out.
        device: where they are.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fused = True if torch.device(device).type == "cuda" else None
    if config.name == "sgd":
        return torch.optim.SGD(
            trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(trained, lr=config.lr, weight_decay=config.weight_decay, amsgrad=config.amsgrad, fused=fused)


class Schedule:
    """The learning rate as a function of epoch and step, so that a resumed training needs no state of it.

    ``cosine`` is set once an epoch e = 1..E: floor + (lr - floor) * (1 + cos(pi * e / E)) / 2 with floor =
    lr * decay_rate^3, so epoch 1 is already below lr and epoch E is at the floor (Patch-Mix). ``step`` is lr times
    decay_rate for each of `decay_epochs` that lies strictly before the epoch. ``one_cycle`` is set once a step:
    PyTorch's `OneCycleLR` with its defaults, of which the cycle of the momentum is left out. ``constant`` is lr.
    ``warmup_cosine`` is set once a step: linear from lr / 10 to lr over the first `warmup_share` of all steps, then
    half a cosine wave to `lowest_lr`, which the step after the last would have.

    A warm-up of W epochs rises linearly, step by step, from lr / 10 to the rate that the schedule has in epoch W.
    """

    def __init__(self, config: OptimConfig, epochs: int, steps_per_epoch: int) -> None:
        self.config, self.epochs, self.steps_per_epoch = config, epochs, steps_per_epoch

    def apply(self, optimizer: torch.optim.Optimizer, epoch: int, step: int) -> float:
        """Set the rate of every parameter group and return it.

        Args:
            optimizer: whose rate is set.
            epoch: from 1.
            step: within the epoch, from 0.
        """
        rate = self.rate(epoch, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate

    def rate(self, epoch: int, step: int = 0) -> float:
        """The learning rate of one step."""
        done = (epoch - 1) * self.steps_per_epoch + step
        if self.config.schedule == "one_cycle":
            return self._one_cycle(done)
        if self.config.schedule == "warmup_cosine":
            return self._warmup_cosine(done)
        warmup = self.config.warmup_epochs
        if epoch <= warmup:
            start, end = WARMUP_START * self.config.lr, self._by_epoch(warmup)
            return start + (end - start) * done / (warmup * self.steps_per_epoch)
        return self._by_epoch(epoch)

    def _by_epoch(self, epoch: int) -> float:
        lr = self.config.lr
        if self.config.schedule == "constant":
            return lr
        if self.config.schedule == "step":
            return lr * self.config.decay_rate ** sum(epoch > last for last in self.config.decay_epochs)
        return _cosine(lr, lr * self.config.decay_rate**COSINE_DECAYS, epoch / self.epochs)

    def _warmup_cosine(self, done: int) -> float:
        lr, steps = self.config.lr, self.epochs * self.steps_per_epoch
        rising = int(steps * self.config.warmup_share)
        if done < rising:
            return lr * (WARMUP_START + (1 - WARMUP_START) * done / rising)
        return _cosine(lr, self.config.lowest_lr, (done - rising) / (steps - rising))

    def _one_cycle(self, done: int) -> float:
        lr, last = self.config.lr, self.epochs * self.steps_per_epoch - 1
        top = RISE * (last + 1) - 1
        if done <= top:
            return _cosine(lr * START, lr, done / top)
        return _cosine(lr, lr * END, (done - top) / (last - top))


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine wave from start to end."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0
