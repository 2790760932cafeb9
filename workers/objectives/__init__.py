"""Losses and mixing methods, one family per module; `build_objective` makes any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.config.objectives import OBJECTIVES, ObjectiveConfig

if TYPE_CHECKING:
    from workers.objectives.base import Objective


def build_objective(config: ObjectiveConfig, feature_dim: int, class_counts: np.ndarray) -> Objective:
    """The objective of a config.

    The module that the config's class names has a function ``build(config, feature_dim, class_counts)``, which returns
    an `Objective`.

    Args:
        config: which, and its settings.
        feature_dim: width of the model's features.
        class_counts: ``[classes]`` training cycles of each class.

    Raises:
        UserError: the objective does not fit the model's features, or no class has a training cycle; or a fault of the
            package that the objective is from, if that is another one.
    """
    from workers.objectives.base import Objective

    return OBJECTIVES.build(config, feature_dim, class_counts, kind=Objective)  # type: ignore[type-abstract]
