"""Which training cycles an epoch sees, and in which order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workers.augment.concatenate import Joined, plan_pairs
from workers.augment.splice import Spliced, plan_splices
from workers.config.training import TrainingConfig
from workers.data import FoldData


class Sampling:
    """The training side's items: its cycles, then the pairs of concatenation augmentation or what is made of events.

    Args:
        config: batches, sampler, and how far classes are grown.
        data: the fold.
        generator: draws the pairs, or what is made of events.
    """

    def __init__(self, config: TrainingConfig, data: FoldData, generator: torch.Generator) -> None:
        self.config = config
        labels = data.labels[data.train]
        self.joined: Joined | Spliced | None = None
        if config.concat_scale:
            self.joined = plan_pairs(labels, config.concat_scale, generator)
        elif data.events is not None:
            self.joined = plan_splices(
                labels,
                data.own_frames[data.train],
                data.events,
                scale=config.event_scale,
                seconds=data.seconds,
                frames=data.values.shape[-2],
                generator=generator,
            )
        own = torch.from_numpy(labels)
        self.labels = own if self.joined is None else torch.cat([own, self.joined.labels])
        self.class_counts: np.ndarray = np.bincount(self.labels.numpy(), minlength=data.classes)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        count, size = len(self.labels), self.config.batch_size
        return max(1, count // size) if self.config.drop_last else -(-count // size)

    def epoch(self, generator: torch.Generator) -> list[Tensor]:
        """The items of one epoch, cut into batches.

        ``shuffle``: each once; ``weighted``: as many draws with replacement, every class with the same chance.
        """
        if self.config.sampler == "weighted":
            weights = 1.0 / torch.from_numpy(self.class_counts).double()
            order = torch.multinomial(weights[self.labels], len(self.labels), replacement=True, generator=generator)
        else:
            order = torch.randperm(len(self.labels), generator=generator)
        return list(order.split(self.config.batch_size))[: self.steps]
