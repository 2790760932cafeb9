"""Cross entropy, weighted or not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from workers.config.objectives import CeConfig
from workers.objectives.base import Loss, Objective, class_weights, full_precision


def build(config: CeConfig, feature_dim: int, class_counts: np.ndarray) -> CrossEntropy:
    """The objective of a config."""
    return CrossEntropy(config, class_counts)


class CrossEntropy(Objective):
    """Cross entropy of the model's logits.

    With class weights it is the weighted mean sum(w[y] * nll) / sum(w[y]) over the batch.
    """

    def __init__(self, config: CeConfig, class_counts: np.ndarray) -> None:
        super().__init__()
        self.cross_entropy = nn.CrossEntropyLoss(
            weight=class_weights(class_counts, config.class_weights), label_smoothing=config.label_smoothing
        )

    def forward(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Loss:
        logits = full_precision(model(x))
        loss = self.cross_entropy(logits, y)
        return Loss(loss, {"ce": loss.detach()}, logits.detach())
