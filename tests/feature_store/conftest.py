"""Stores and corpora that the tests of the build share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.store import FeatureStore
from tests.support.corpora import SPEC, copy_of


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, synthetic_corpus: Path) -> FeatureStore:
    """The synthetic corpus, built in this process. Read only."""
    store = FeatureStore.open(str(tmp_path_factory.mktemp("built")), create=True)
    build(open_corpus("icbhi", synthetic_corpus), SPEC, store, workers=0)
    return store


@pytest.fixture
def store(built: FeatureStore, tmp_path: Path) -> FeatureStore:
    shutil.copytree(built.uri, tmp_path / "store")
    return FeatureStore.open(str(tmp_path / "store"))


@pytest.fixture
def root(synthetic_corpus: Path, tmp_path: Path) -> Path:
    return copy_of(synthetic_corpus, tmp_path / "corpus")
