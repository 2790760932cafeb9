"""A result as MLflow's metrics."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from mlflow.entities import Metric

from workers.results import FoldResult


def result_metrics(result: FoldResult, label: str) -> list[Metric]:
    """A result's curves by epoch, and its Scores under each protocol."""
    prefix = f"{label}{result.key.fold if label == 'fold' else result.key.seed}"
    now = int(time.time() * 1000)
    metrics = [
        Metric(f"{prefix}/{name}", float(value), now, record["epoch"])
        for record in result.epochs
        for name, value in _epoch_metrics(record).items()
    ]
    for protocol, chosen in result.protocols.items():
        metrics += [Metric(f"{prefix}/{protocol}_{k}", v, now, 0) for k, v in chosen.test.flat().items()]
    return [*metrics, Metric(f"{prefix}/seconds", result.timing["total_seconds"], now, 0)]


def _epoch_metrics(record: dict[str, Any]) -> dict[str, float]:
    metrics = {"train_loss": record["train_loss"], "lr": record["lr"]}
    metrics |= {f"loss_{name}": value for name, value in record.get("parts", {}).items()}
    for side in ("validation", "test"):
        metrics |= {f"{side}_{name}": value for name, value in record.get(side, {}).items()}
    return {name: value for name, value in metrics.items() if np.isfinite(value)}
