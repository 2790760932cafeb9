"""A fold of random features, to time training with."""

from __future__ import annotations

import numpy as np

from workers.config import ExperimentConfig
from workers.data import FoldData
from workers.results import DataSummary


def made_up_fold(config: ExperimentConfig, cycles: int | None = None) -> FoldData:
    """Random values ``[cycles, frames, bins]`` of four classes; the side that is trained on fills a batch."""
    rng = np.random.default_rng(0)
    size = config.training.batch_size
    count = cycles or 3 * size + 8
    third = np.arange(count)
    labels = (third % 4).astype(np.int64)
    values = rng.standard_normal((count, *config.feature.shape), dtype=np.float32)
    train, validation, test = third[: size * 2], third[size * 2 : size * 2 + 4], third[size * 2 + 4 :]
    return FoldData(
        values=values,
        labels=labels,
        cycle_ids=np.array([f"r#{i:03d}" for i in range(count)]),
        patients=np.array([str(i % 5) for i in range(count)]),
        devices=np.array(["Meditron"] * count),
        own_frames=np.full(count, config.feature.shape[0]),
        train=train,
        validation=validation,
        test=test,
        summary=DataSummary(
            dataset="icbhi",
            task="lungsound4",
            classes=["normal", "crackle", "wheeze", "both"],
            synthetic=True,
            recordings=1,
            recordings_listed=1,
            train=len(train),
            validation=len(validation),
            test=len(test),
            train_patients=5,
            validation_patients=4,
            test_patients=5,
            train_class_counts=np.bincount(labels[train], minlength=4).tolist(),
            patients_on_both_sides=[],
        ),
    )
