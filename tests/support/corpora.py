"""What the tests of the store and of the build do to a copy of a corpus, and how they look at a feature."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile

from feature_store.build import BuildReport, build
from feature_store.datasets import open_corpus
from feature_store.datasets.base import Corpus
from feature_store.features import FbankSpec, Spec
from feature_store.store import FeatureStore

SPEC = FbankSpec(seconds=2.0, n_mels=32, shift_ms=40.0)
HALF = SPEC.model_copy(update={"dtype": "float16"})


def copy_of(corpus: Path, to: Path) -> Path:
    shutil.copytree(corpus, to)
    return to


def audio_of(corpus: Corpus, index: int) -> tuple[str, Path]:
    recording = corpus.recordings[index]
    assert recording.audio is not None
    return recording.name, recording.audio


def reverse_audio(path: Path) -> None:
    """Put another sound of the same length in place."""
    samples, rate = soundfile.read(path, dtype="float32")
    soundfile.write(path, samples[::-1], rate, subtype=soundfile.info(path).subtype)


def rows_of(store: FeatureStore, feature_id: str, cache: Path) -> dict[str, np.ndarray]:
    """A feature's values by cycle id."""
    features = store.load("icbhi", feature_id, cache)
    return dict(zip(features.cycle_ids, np.array(features.values), strict=True))


def rebuild(root: Path, store: FeatureStore, spec: Spec = SPEC, **options) -> BuildReport:
    return build(open_corpus("icbhi", root), spec, store, **{"workers": 0, **options})


def assert_same_rows(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[cycle], other[cycle]) for cycle in one)
