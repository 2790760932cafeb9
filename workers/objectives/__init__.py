"""Losses and mixing methods, one family a file."""

from __future__ import annotations

import numpy as np

from workers.config import CeConfig, CutMixMixupConfig, CycleGuardianLossConfig, ObjectiveConfig, PatchMixConfig
from workers.objectives.base import Loss, Objective
from workers.objectives.contrastive import PatchMixCl
from workers.objectives.cross_entropy import CrossEntropy
from workers.objectives.cutmix_mixup import CutMixMixup
from workers.objectives.cycleguardian import CycleGuardianLoss
from workers.objectives.patch_mix import PatchMix

__all__ = ["Loss", "Objective", "build_objective"]


def build_objective(config: ObjectiveConfig, feature_dim: int, class_counts: np.ndarray) -> Objective:
    """The objective of a config.

    Args:
        config: which, and its settings.
        feature_dim: width of the model's features.
        class_counts: ``[classes]`` training cycles of each class.

    Raises:
        UserError: the objective does not fit the model's features, or no class has a training cycle.
    """
    if isinstance(config, CeConfig):
        return CrossEntropy(config, class_counts)
    if isinstance(config, CutMixMixupConfig):
        return CutMixMixup(config, len(class_counts))
    if isinstance(config, CycleGuardianLossConfig):
        return CycleGuardianLoss(config, feature_dim, class_counts)
    if isinstance(config, PatchMixConfig):
        return PatchMix(config, class_counts)
    return PatchMixCl(config, feature_dim, class_counts)
