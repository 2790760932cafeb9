"""Mean and standard deviation of a built feature, over the training side of a split only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_store.errors import UserError, nearest
from feature_store.features import FbankSpec, Spec, resolve_feature
from feature_store.store import FeatureStore

BLOCK = 64  # cycles read at a time


@dataclass(frozen=True)
class Statistics:
    """Of a feature's training side.

    Attributes:
        cycles: that were measured.
        values: of all these cycles, augmented copies included.
        mean, std: of the values as they are stored; the standard deviation is that of the population.
        raw_mean, raw_std: of a filter bank before its normalisation, to be the spec's `mean` and `std`; else None.
    """

    feature_id: str
    split: str
    fold: int
    cycles: int
    values: int
    mean: float
    std: float
    raw_mean: float | None = None
    raw_std: float | None = None


def training_statistics(
    store: FeatureStore,
    dataset: str,
    feature: Spec | str,
    split: str = "official",
    fold: int = 0,
    *,
    cache: Path,
    task: str | None = None,
) -> Statistics:
    """Mean and standard deviation over all training values, in one pass over the mapped feature.

    Filter banks are normalised as AST's are, ``(x - mean) / (2 std)``; of those the statistics of x are given too.

    Args:
        store: read.
        dataset: its name.
        feature: a spec, an id or a short name.
        split: a stored split, or inner folds of one.
        fold: of the split.
        cache: where the feature is mapped, as for training.
        task: that inner folds are balanced for; the dataset's first if not given.

    Raises:
        UserError: the feature, the split or the fold is not there, or the feature lacks cycles of the training side.
    """
    manifest = store.manifest(dataset, feature)
    table = store.split(dataset, split, task or next(iter(store.dataset(dataset)["classes"])))
    if fold not in table.folds():
        hint = nearest(str(fold), map(str, table.folds()))
        raise UserError(f"split '{split}' of '{dataset}' has no fold {fold}", where="--fold", hint=hint)
    wanted = set(table.side(fold, "train"))
    features = store.load(dataset, manifest.feature_id, cache)
    rows = np.array([row for row, cycle_id in enumerate(features.cycle_ids) if cycle_id in wanted], int)
    if not wanted or len(rows) < len(wanted):
        what = f"feature {manifest.feature_id} lacks {len(wanted) - len(rows)} of {len(wanted)} training cycles"
        raise UserError(what, where=f"split '{split}', fold {fold}", hint="run `lungtune features build` for it again")
    count, mean, std = moments(features.values, rows)
    raw_mean = raw_std = None
    spec = resolve_feature(manifest.spec)
    if isinstance(spec, FbankSpec):
        raw_mean, raw_std = mean * 2 * spec.std + spec.mean, std * 2 * spec.std
    return Statistics(manifest.feature_id, split, fold, len(rows), count, mean, std, raw_mean, raw_std)


def moments(values: np.ndarray, rows: np.ndarray) -> tuple[int, float, float]:
    """Count, mean and standard deviation of some rows, block by block in float64 (Chan et al., 1983).

    Args:
        values: ``[cycles, ...]``; it may be mapped, and is never copied whole.
        rows: ``[rows]`` row numbers.
    """
    count, mean, squares = 0, 0.0, 0.0
    for start in range(0, len(rows), BLOCK):
        block = values[rows[start : start + BLOCK]].astype(np.float64)
        there, centre = block.size, float(block.mean())
        apart = centre - mean
        squares += float(np.square(block - centre).sum()) + apart**2 * count * there / (count + there)
        mean += apart * there / (count + there)
        count += there
    return count, mean, math.sqrt(squares / count)
