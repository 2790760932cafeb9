"""The smallest thing that trains for real: a tiny feature, a CRNN of a few cells, a sweep over its learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feature_store.settings import Settings
from search_spaces.overrides import merge

TINY_FEATURE: dict[str, Any] = {
    "kind": "fbank", "sample_rate": 16000, "seconds": 2.0, "n_mels": 32, "shift_ms": 40.0
}  # fmt: skip
TINY_CONFIG: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "crnn", "hidden": 4, "layers": 1},
    "objective": {"name": "ce"},
    "augment": {"policy": "none"},
    "training": {"epochs": 1, "batch_size": 32},
}
TINY_SWEEP: dict[str, Any] = {
    "name": "tiny",
    "base": TINY_CONFIG,
    "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
    "evaluation": {"split": "official-inner2"},
    "promotion": {"seeds": [0, 1]},  # the registry's policy wants two
    "search": {"trials": 2},
}


def tiny_sweep(**changes: Any) -> dict[str, Any]:
    """The search space's content, with some of it changed: two trials of two folds, and two seeds of the best."""
    return merge(TINY_SWEEP, changes)


def tiny_store(corpus: Path, settings: Settings) -> None:
    """Build the tiny feature of a database in ICBHI's format into the settings' store."""
    from feature_store.build import build
    from feature_store.datasets import open_corpus
    from feature_store.features import resolve_feature
    from feature_store.store import FeatureStore

    store = FeatureStore.open(settings.store, create=True)
    build(open_corpus("icbhi", corpus), resolve_feature(TINY_FEATURE), store, workers=0)
