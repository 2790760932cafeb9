"""Building: only what is missing, the same content however it is built, and nothing lost when it is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from corpora import audio_of, copy_of, reverse_audio, rows_of

from feature_store.build import RECORDINGS_A_PART, BuildReport, build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import FbankSpec
from feature_store.storage import LocalStorage
from feature_store.store import FeatureStore

SPEC = FbankSpec(seconds=2.0, n_mels=32, shift_ms=40.0)
HALF = SPEC.model_copy(update={"dtype": "float16"})


@pytest.fixture(scope="module")
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


def rebuild(root: Path, store: FeatureStore, spec: FbankSpec = SPEC, **options) -> BuildReport:
    return build(open_corpus("icbhi", root), spec, store, **{"workers": 0, **options})


def content_of(store: FeatureStore) -> dict[str, bytes]:
    return {key: store.storage.read(key) for key in store.storage.list("")}


def assert_same_rows(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[cycle], other[cycle]) for cycle in one)


# --- incremental ---


def test_the_first_build_computes_everything(root: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    store = FeatureStore.open(str(tmp_path / "new"), create=True)
    report = rebuild(root, store, progress=lambda done, total: told.append((done, total)))
    corpus = open_corpus("icbhi", root)
    total = len(corpus.recordings)
    cycles = sum(len(recording.cycles) for recording in corpus.recordings)
    assert (report.computed, report.reused, report.removed, report.failed) == (total, 0, 0, [])
    assert report.cycles == report.cycles_computed == cycles == store.manifest("icbhi", SPEC).rows
    assert told == [(0, total), (RECORDINGS_A_PART, total), (total, total)]


def test_the_second_build_computes_nothing(root: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.manifest("icbhi", SPEC)
    monkeypatch.setattr("feature_store.build.compute_recording", None)  # calling it would fail
    report = rebuild(root, store)
    assert (report.computed, report.cycles_computed, report.reused) == (0, 0, len(before.recordings))
    assert store.manifest("icbhi", SPEC).parts == before.parts


def test_a_changed_recording_alone_is_computed_again(root: Path, store: FeatureStore, tmp_path: Path) -> None:
    before = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    hash_before = store.manifest("icbhi", SPEC).content_hash
    name, audio = audio_of(open_corpus("icbhi", root), 5)
    reverse_audio(audio)
    report = rebuild(root, store)
    after = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    assert (report.computed, report.reused, report.removed) == (1, len(store.manifest("icbhi", SPEC).recordings) - 1, 0)
    assert before.keys() == after.keys()
    changed = {cycle.rsplit("#")[0] for cycle in before if not np.array_equal(before[cycle], after[cycle])}
    assert changed == {name}
    assert store.manifest("icbhi", SPEC).content_hash != hash_before
    assert store.verify("icbhi", SPEC.feature_id) == []


def test_a_changed_annotation_is_computed_again(root: Path, store: FeatureStore) -> None:
    recording = open_corpus("icbhi", root).recordings[0]
    assert recording.annotation
    lines = recording.annotation.read_text().splitlines()
    recording.annotation.write_text("\n".join(lines[:-1]) + "\n")
    report = rebuild(root, store)
    assert (report.computed, report.cycles_computed) == (1, len(lines) - 1)
    assert store.verify("icbhi", SPEC.feature_id) == []


def test_a_new_recording_alone_is_computed(root: Path, tmp_path: Path, built: FeatureStore) -> None:
    name, audio = audio_of(open_corpus("icbhi", root), 7)
    for file in (audio, audio.with_suffix(".txt")):
        file.rename(tmp_path / file.name)
    store = FeatureStore.open(str(tmp_path / "new"), create=True)
    rebuild(root, store)
    for file in (audio, audio.with_suffix(".txt")):
        (tmp_path / file.name).rename(file)
    assert rebuild(root, store).computed == 1
    assert_same_rows(rows_of(store, SPEC.feature_id, tmp_path), rows_of(built, SPEC.feature_id, tmp_path))
    assert store.manifest("icbhi", SPEC).content_hash == built.manifest("icbhi", SPEC).content_hash
    assert name in store.manifest("icbhi", SPEC).recordings


def test_a_removed_recording_vanishes(root: Path, store: FeatureStore, tmp_path: Path) -> None:
    name, audio = audio_of(open_corpus("icbhi", root), 2)
    before = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    audio.unlink()
    audio.with_suffix(".txt").unlink()
    report = rebuild(root, store)
    assert (report.computed, report.removed) == (0, 1)
    kept = {cycle: values for cycle, values in before.items() if not cycle.startswith(f"{name}#")}
    assert len(kept) < len(before)
    assert_same_rows(rows_of(store, SPEC.feature_id, tmp_path / "cache"), kept)
    assert name not in store.cycles("icbhi")["recording"].to_pylist()
    assert set(store.split("icbhi", "official", "lungsound4").table["cycle_id"].to_pylist()) == kept.keys()
    assert store.verify("icbhi", SPEC.feature_id) == []


def test_no_file_is_left_that_the_manifest_does_not_name(root: Path, store: FeatureStore) -> None:
    reverse_audio(audio_of(open_corpus("icbhi", root), 0)[1])
    rebuild(root, store)
    folder = store.storage.local_path(f"icbhi/features/{SPEC.feature_id}")
    assert folder
    parts = {part.file for part in store.manifest("icbhi", SPEC).parts}
    assert {path.name for path in folder.iterdir()} == parts | {"manifest.json", "spec.json"}


def test_other_hidden_files_in_the_store_are_left_alone(root: Path, store: FeatureStore) -> None:
    place = store.storage.local_path(f"icbhi/features/{SPEC.feature_id}")
    assert place
    (place / ".ipynb_checkpoints").mkdir()
    foreign = place / ".DS_Store"
    foreign.write_bytes(b"not ours")
    half_written = place / ".manifest.json.0123456789abcdef0123456789abcdef"
    half_written.write_bytes(b"{")
    rebuild(root, store)
    assert foreign.read_bytes() == b"not ours"
    assert (place / ".ipynb_checkpoints").is_dir()
    assert not half_written.exists()


# --- bad recordings ---


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_broken_recording_is_left_out_and_named(root: Path, store: FeatureStore, tmp_path: Path, damage: str) -> None:
    before = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    name, audio = audio_of(open_corpus("icbhi", root), 4)
    audio.write_bytes(audio.read_bytes()[: 3000 if damage == "cut" else 0])
    report = rebuild(root, store)
    assert [audio.name in problem.where for problem in report.failed] == [True]
    after = rows_of(store, SPEC.feature_id, tmp_path / "cache")
    assert_same_rows(after, {c: v for c, v in before.items() if not c.startswith(f"{name}#")})
    assert set(store.cycles("icbhi")["cycle_id"].to_pylist()) == after.keys()


def test_audio_that_breaks_after_the_corpus_was_read_is_named(root: Path, store: FeatureStore) -> None:
    corpus = open_corpus("icbhi", root)
    (_, broken), (_, gone) = audio_of(corpus, 1), audio_of(corpus, 6)
    broken.write_bytes(broken.read_bytes()[:3000])
    gone.unlink()
    report = build(corpus, SPEC, store, workers=0)
    assert sorted(Path(problem.where).name for problem in report.failed) == sorted([broken.name, gone.name])
    assert len(store.manifest("icbhi", SPEC).recordings) == len(corpus.recordings) - 2


def test_strict_refuses_and_leaves_the_store_as_it_was(root: Path, store: FeatureStore) -> None:
    before = content_of(store)
    corpus = open_corpus("icbhi", root)
    _, changed = audio_of(corpus, 0)
    reverse_audio(changed)
    _, audio = audio_of(corpus, 1)
    audio.write_bytes(audio.read_bytes()[:3000])
    for read_before_or_after in (corpus, open_corpus("icbhi", root)):
        with pytest.raises(UserError, match=rf"{audio.name}.*truncated"):
            build(read_before_or_after, SPEC, store, strict=True, workers=0)
        assert content_of(store) == before


def test_a_corpus_of_which_nothing_can_be_used_is_refused(root: Path, store: FeatureStore) -> None:
    before = content_of(store)
    corpus = open_corpus("icbhi", root)
    for recording in corpus.recordings:
        assert recording.audio
        recording.audio.write_bytes(b"no sound")
    with pytest.raises(UserError, match="no recording can be used"):
        build(corpus, SPEC, store, workers=0)
    assert content_of(store) == before


# --- format ---


def test_parts_are_plain_parquet(root: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(str(tmp_path / "new"), create=True)
    rebuild(root, store, HALF)
    part = next((tmp_path / "new" / "icbhi" / "features" / HALF.feature_id).glob("*.parquet"))
    schema = pq.read_schema(part)
    width = HALF.shape[0] * HALF.shape[1]
    assert schema.names == ["cycle_id", "values"]
    assert str(schema.field("values").type) == f"fixed_size_list<element: halffloat>[{width}]"
    assert json.loads(schema.metadata[b"shape"]) == list(HALF.shape)
    frame = pd.read_parquet(part)
    loaded = rows_of(store, HALF.feature_id, tmp_path)
    assert len(frame) > 0
    for cycle_id, values in zip(frame["cycle_id"], frame["values"], strict=True):
        assert values.dtype == loaded[cycle_id].dtype == np.float16
        np.testing.assert_array_equal(values.reshape(HALF.shape), loaded[cycle_id])


def test_spec_of_a_feature_can_be_read_beside_it(built: FeatureStore) -> None:
    content = json.loads(built.storage.read(f"icbhi/features/{SPEC.feature_id}/spec.json"))
    assert FbankSpec.model_validate(content) == SPEC


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
from test_build import SPEC, rebuild
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
    assert store.verify("icbhi", SPEC.feature_id) == store.verify("icbhi", HALF.feature_id) == []
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
        assert store.verify("icbhi", SPEC.feature_id) == []
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
        assert other.verify("icbhi", SPEC.feature_id) == []
    assert states == sorted(states)  # old, then refused
    assert states.count("old") >= 3
