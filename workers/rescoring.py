"""A model that is trained already, on one side of a fold: evaluation without training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.metrics import Metric
from feature_store.store import FeatureStore
from workers.config import ExperimentConfig
from workers.data import load_fold
from workers.evaluation import Metrics, evaluate, evaluate_by
from workers.results import WEIGHTS, FoldResult

if TYPE_CHECKING:
    from workers.models.load_report import LoadReport


@dataclass(frozen=True)
class Rescored:
    """What a checkpoint says of one side of a fold.

    Attributes:
        cycle_ids: ``[cycles]``, in the order of the logits.
        devices: ``[cycles]``.
        labels: ``[cycles]`` class numbers.
        logits: ``[cycles, classes]`` float32.
        metric: the task's own.
        report: what became of the file's entries.
    """

    cycle_ids: np.ndarray
    devices: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    metric: Metric
    report: LoadReport

    @property
    def metrics(self) -> Metrics:
        return evaluate(self.logits, self.labels)

    def by_device(self) -> dict[str, Metrics]:
        """The metrics of each recording device's cycles."""
        return evaluate_by(self.devices, self.logits, self.labels)


def rescore_result(result: FoldResult, weights: bytes, store: FeatureStore, cache: Path, device: Any) -> Rescored:
    """Run weights over the test side of the fold run that they are of.

    Args:
        result: the fold run.
        weights: `model.safetensors`, from the result store or from a registry.
        store, cache, device: as in `rescore`.

    Raises:
        UserError: see `rescore`.
    """
    config, key = ExperimentConfig.parse(result.config, where=f"result {result.hash[:12]}"), result.key
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(weights)
        return rescore(config, path, store, cache, split=key.split, fold=key.fold, seed=key.seed, device=device)


def rescore(
    config: ExperimentConfig,
    weights: Path,
    store: FeatureStore,
    cache: Path,
    *,
    split: str,
    fold: int,
    side: str = "test",
    seed: int = 0,
    device: Any = "cpu",
) -> Rescored:
    """Run a checkpoint over one side of a fold, with nothing trained and nothing stored.

    Args:
        config: of the model and its feature; its pretrained file is not read.
        weights: lungtune's `model.safetensors`, or a checkpoint that Patch-Mix wrote.
        store: holds the feature.
        cache: node-local folder.
        split, fold: which cycles.
        side: ``test``, ``train``, or ``validation``, which with `train` depends on the seed.
        seed: of the fold run that held the validation patients out.
        device: a torch device.

    Raises:
        UserError: the file does not fit the model, or the store lacks the feature, the split or the fold.
    """
    import torch

    from workers.device import Rows, autocast
    from workers.models import build_model
    from workers.models.checkpoint import load_checkpoint

    table = store.split(config.dataset, split, task=config.task)
    data = load_fold(store, config, table, fold, seed, cache)
    place = torch.device(device)
    model = build_model(config.model, config.feature.shape, data.classes, scalars=config.feature.scalars)
    report = load_checkpoint(model, weights)
    model.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval()
    rows = Rows(data, side, place)
    with torch.inference_mode(), autocast(config.training.precision, place)():
        batches = rows.positions.split(config.training.eval_batch_size)
        logits = torch.cat([model(rows.take(batch)[0]).float() for batch in batches]).cpu().numpy()
    chosen = getattr(data, side)
    return Rescored(
        cycle_ids=data.cycle_ids[chosen],
        devices=data.devices[chosen],
        labels=data.labels[chosen],
        logits=logits,
        metric=data.summary.metric,
        report=report,
    )
