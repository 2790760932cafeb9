"""Builds in parallel give what one process gives, and a killed build loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import FbankSpec
from feature_store.storage import LocalStorage
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from tests.support.corpora import HALF, SPEC, assert_same_rows, audio_of, rebuild, reverse_audio, rows_of

pytestmark = pytest.mark.slow

# --- in parallel ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_two_tasks_give_what_one_process_gives(root: Path, built: FeatureStore, tmp_path: Path) -> None:
    store = FeatureStore.open(str(tmp_path / "new"), create=True)
    corpus = open_corpus("icbhi", root)
    broken = corpus.recordings[3]
    assert broken.audio
    content = broken.audio.read_bytes()
    broken.audio.write_bytes(content[:3000])
    report = build(corpus, SPEC, store, workers=2)
    assert [broken.audio.name in problem.where for problem in report.failed] == [True]
    assert report.computed == len(corpus.recordings) - 1
    broken.audio.write_bytes(content)
    assert rebuild(root, store, workers=2).computed == 1
    one, two = built.manifest("icbhi", SPEC), store.manifest("icbhi", SPEC)
    assert one.content_hash == two.content_hash
    rows, expected = rows_of(store, SPEC.feature_id, tmp_path / "a"), rows_of(built, SPEC.feature_id, tmp_path / "b")
    assert rows.keys() == expected.keys()
    for cycle, values in rows.items():
        np.testing.assert_allclose(values, expected[cycle], atol=1e-6)


ALONE = """
import sys
from pathlib import Path
from tests.support.corpora import SPEC, rebuild
from feature_store.store import FeatureStore
if __name__ == "__main__":
    import ray
    rebuild(Path(sys.argv[1]), FeatureStore.open(sys.argv[2], create=True), workers=1)
    print(ray.get_runtime_context().gcs_address)
"""


@pytest.mark.usefixtures("cluster")
def test_a_build_joins_no_cluster_that_it_was_not_given(root: Path, tmp_path: Path) -> None:
    """Another user's cluster on the machine is not ours: `ray.init()` without an address would join it."""
    import ray

    other = ray.get_runtime_context().gcs_address
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    command = [sys.executable, "-c", ALONE, str(root), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    own = done.stdout.split()[-1]
    assert ":" in own
    assert own != other


def _build(root: str, uri: str, spec: FbankSpec, start) -> None:
    store = FeatureStore.open(uri, create=True)
    start.wait()
    rebuild(Path(root), store, spec)


def test_two_builds_at_once(root: Path, built: FeatureStore, tmp_path: Path) -> None:
    """Two processes build the same feature and a third another one, into one new store."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    arguments = [(str(root), str(tmp_path / "new"), spec, start) for spec in (SPEC, SPEC, HALF)]
    builds = [context.Process(target=_build, args=each) for each in arguments]
    for process in builds:
        process.start()
    for process in builds:
        process.join(60)
    assert [process.exitcode for process in builds] == [0, 0, 0]
    store = FeatureStore.open(str(tmp_path / "new"))
    assert verify_feature(store, "icbhi", SPEC.feature_id) == verify_feature(store, "icbhi", HALF.feature_id) == []
    assert_same_rows(rows_of(store, SPEC.feature_id, tmp_path), rows_of(built, SPEC.feature_id, tmp_path))


# --- killed ---


def _build_and_die(root: str, uri: str, at_write: int, half_written: bool) -> None:
    """Build, but be killed at the n-th write, before it or with its temporary file there."""
    write, writes = LocalStorage.write, 0

    def dying_write(self: LocalStorage, key: str, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == at_write:
            if half_written:
                self._write_beside(key, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, key, data)

    LocalStorage.write = dying_write  # type: ignore[method-assign]
    rebuild(Path(root), FeatureStore.open(uri))


def killed(root: Path, store: FeatureStore, at_write: int, half_written: bool) -> bool:
    """Whether the build came to that write."""
    process = multiprocessing.get_context("fork").Process(
        target=_build_and_die, args=(str(root), store.uri, at_write, half_written)
    )
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.parametrize("half_written", [False, True], ids=["before", "within"])
def test_a_kill_at_any_write_loses_nothing(root: Path, built: FeatureStore, tmp_path: Path, half_written: bool) -> None:
    """A feature of a part of the corpus is there; the build that adds the rest is killed at each of its writes."""
    whole = rows_of(built, SPEC.feature_id, tmp_path / "cache")
    away = tmp_path / "away"
    away.mkdir()
    corpus = open_corpus("icbhi", root)
    hidden = [audio_of(corpus, index) for index in (1, 8, 9)]
    for name, audio in hidden:
        audio.rename(away / audio.name)
        audio.with_suffix(".txt").rename(away / f"{name}.txt")
    start = FeatureStore.open(str(tmp_path / "start"), create=True)
    rebuild(root, start)
    for name, audio in hidden:
        (away / audio.name).rename(audio)
        (away / f"{name}.txt").rename(audio.with_suffix(".txt"))
    before = rows_of(start, SPEC.feature_id, tmp_path / "cache")
    moments = 0
    for at_write in range(1, 100):
        place = tmp_path / f"killed-{at_write}"
        shutil.copytree(start.uri, place)
        store = FeatureStore.open(str(place))
        if not killed(root, store, at_write, half_written):
            break
        moments += 1
        assert_same_rows(rows_of(store, SPEC.feature_id, tmp_path / "cache"), before)
        rebuild(root, store)
        assert_same_rows(rows_of(store, SPEC.feature_id, tmp_path / "cache"), whole)
        assert verify_feature(store, "icbhi", SPEC.feature_id) == []
        assert not [path for path in place.rglob(".*") if path.name != ".build.lock"]
        shutil.rmtree(place)
    assert moments >= 6  # a part, cycles, splits, description, spec, manifest


def test_a_kill_while_a_recording_is_replaced_never_mixes_states(
    root: Path, store: FeatureStore, tmp_path: Path
) -> None:
    """Until the cycles are written the old values are read, from then until the manifest they are refused."""
    before = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    name, audio = audio_of(open_corpus("icbhi", root), 5)
    reverse_audio(audio)
    states = []
    for at_write in range(1, 100):
        place = tmp_path / f"killed-{at_write}"
        shutil.copytree(store.uri, place)
        other = FeatureStore.open(str(place))
        if not killed(root, other, at_write, half_written=False):
            break
        try:
            assert_same_rows(rows_of(other, SPEC.feature_id, tmp_path / "cache"), before)
            states.append("old")
        except UserError as error:
            assert name in str(error)
            states.append("refused")
        assert rebuild(root, other).failed == []
        assert verify_feature(other, "icbhi", SPEC.feature_id) == []
    assert states == sorted(states)  # old, then refused
    assert states.count("old") >= 3
