"""The cache of a node: what is old goes, what a process has mapped stays, and what went is laid out again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from feature_store.feature_cache import Cached, clean
from feature_store.store import FeatureStore
from tests.support.corpora import SPEC

MAP = """
import sys
from pathlib import Path
from feature_store.store import FeatureStore
features = FeatureStore.open(sys.argv[1]).load("icbhi", sys.argv[2], Path(sys.argv[3]))
print("mapped", flush=True)
sys.stdin.readline()
print(float(features.values.sum()))
"""
DAY = 86_400.0


def map_elsewhere(store: FeatureStore, cache: Path) -> subprocess.Popen[str]:
    """A process that has the feature mapped until a line is written to it; then it tells the sum of the values."""
    command = [sys.executable, "-c", MAP, store.uri, SPEC.feature_id, str(cache)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "mapped\n"
    return process


def age(folder: Path, days: float) -> None:
    """As if nobody had looked at it for so long."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - days * DAY,) * 2)


def states(found: list[Cached]) -> list[str]:
    return [cached.state for cached in found]


@pytest.fixture
def cache(store: FeatureStore, tmp_path: Path) -> Path:
    """A cache in which a process that has ended left a feature."""
    process = map_elsewhere(store, tmp_path / "cache")
    process.communicate("\n", timeout=60)
    return tmp_path / "cache"


@pytest.mark.slow
def test_what_nobody_has_mapped_for_long_is_removed_and_laid_out_again(store: FeatureStore, cache: Path) -> None:
    folder = cache / "features"
    size = sum(path.stat().st_size for path in folder.iterdir())
    age(folder, days=8)
    (found,) = clean(folder, time.time() - 7 * DAY)
    assert found.name == f"{SPEC.feature_id}-{store.manifest('icbhi', SPEC).content_hash}"
    assert (found.state, found.bytes) == ("removed", size)
    assert sum(path.stat().st_size for path in folder.iterdir()) == 0 and not list(folder.glob("*.npy"))
    assert clean(folder, time.time()) == []
    assert len(store.load("icbhi", SPEC.feature_id, cache).cycle_ids) == store.cycles("icbhi").num_rows


@pytest.mark.slow
def test_what_was_mapped_lately_stays_though_it_was_laid_out_long_ago(store: FeatureStore, cache: Path) -> None:
    age(cache / "features", days=8)
    map_elsewhere(store, cache).communicate("\n", timeout=60)
    assert states(clean(cache / "features", time.time() - 7 * DAY)) == ["recent"]
    assert list((cache / "features").glob("*.npy"))


@pytest.mark.slow
def test_what_a_process_has_mapped_stays_however_old_it_is(store: FeatureStore, cache: Path) -> None:
    process = map_elsewhere(store, cache)
    age(cache / "features", days=99)
    assert states(clean(cache / "features", time.time())) == ["in use"]
    (array,) = (cache / "features").glob("*.npy")
    told, _ = process.communicate("\n", timeout=60)
    assert float(told) == pytest.approx(float(np.load(array).sum()), rel=1e-6)
    assert states(clean(cache / "features", time.time())) == ["removed"]


@pytest.mark.slow
def test_what_this_process_has_mapped_stays_too(store: FeatureStore, tmp_path: Path) -> None:
    store.load("icbhi", SPEC.feature_id, tmp_path)
    age(tmp_path / "features", days=99)
    assert states(clean(tmp_path / "features", time.time())) == ["in use"]


def test_a_layout_that_was_killed_is_removed(tmp_path: Path) -> None:
    for suffix in (".partial", ".json", ".scalars.npy"):
        (tmp_path / f"fbank-0123-4567{suffix}").write_bytes(b"12345")
    (found,) = clean(tmp_path, time.time() + 1)
    assert (found.name, found.bytes, found.state) == ("fbank-0123-4567", 15, "removed")
    assert not list(tmp_path.glob("fbank*"))


def test_there_may_be_no_cache_yet(tmp_path: Path) -> None:
    assert clean(tmp_path / "nothing", time.time()) == []
