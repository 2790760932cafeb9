"""Reading a store: what is there is right, mapped once a node, and what is not there is said with the nearest name."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.audio import cut_cycles, load_recording
from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import NAMED, FbankSpec, Spec, resolve_feature
from feature_store.manifest import Manifest
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from tests.support.corpora import audio_of, copy_of, reverse_audio, rows_of

OTHER = FbankSpec(seconds=1.0, n_mels=16, shift_ms=50.0)


@pytest.fixture
def store(small_home: Path) -> FeatureStore:
    return FeatureStore.open(Settings.load(small_home).store)


@pytest.fixture
def spoilt(small_home: Path, tmp_path: Path) -> FeatureStore:
    """A copy that a test may damage."""
    shutil.copytree(Settings.load(small_home).store, tmp_path / "store")
    return FeatureStore.open(str(tmp_path / "store"))


@pytest.fixture
def manifest(store: FeatureStore) -> Manifest:
    (manifest,) = store.manifests("icbhi")
    return manifest


# --- what is not there ---


def test_no_store_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no feature store here.*lungtune features build"):
        FeatureStore.open(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("mark", [b'{"version": 2}', b"{}", b"[1]"])
def test_another_version_is_refused(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "store.json").write_bytes(mark)
    with pytest.raises(UserError, match="reads version 1"):
        FeatureStore.open(str(tmp_path))
    with pytest.raises(UserError, match="reads version 1"):
        FeatureStore.open(str(tmp_path), create=True)
    assert (tmp_path / "store.json").read_bytes() == mark


@pytest.mark.parametrize("mark", [b"", b"\xff\xfe", b"version 1"])
def test_a_mark_that_is_no_json_is_refused(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "store.json").write_bytes(mark)
    with pytest.raises(UserError, match=r"store\.json"):
        FeatureStore.open(str(tmp_path))


@pytest.mark.slow
def test_a_missing_dataset_names_the_nearest(store: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"no dataset 'icbih'.*did you mean 'icbhi'"):
        store.dataset("icbih")
    for read in (store.cycles, store.manifests, store.splits):
        with pytest.raises(UserError, match="no dataset 'icbih'"):
            read("icbih")


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    store = FeatureStore.open(str(tmp_path), create=True)
    assert store.datasets() == []
    with pytest.raises(UserError, match=r"empty.*features build"):
        store.dataset("icbhi")


def test_a_missing_feature_names_what_is_built(store: FeatureStore, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no feature {OTHER.feature_id}.*features build.*{manifest.feature_id}"):
        store.manifest("icbhi", OTHER)
    with pytest.raises(UserError, match=f"no feature {NAMED['fbank'].feature_id}"):
        store.load("icbhi", "fbank", tmp_path)


def test_a_missing_split_names_the_nearest(store: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"no split 'oficial'.*did you mean 'official'"):
        store.split("icbhi", "oficial", "lungsound4")
    with pytest.raises(UserError, match=r"no split 'oficial-inner5'.*did you mean 'official-inner5'"):
        store.split("icbhi", "oficial-inner5", "lungsound4")


@pytest.mark.parametrize("folds", [0, 1])
def test_too_few_inner_folds_are_refused(store: FeatureStore, folds: int) -> None:
    with pytest.raises(UserError):
        store.split("icbhi", f"official-inner{folds}", "lungsound4")


# --- what is there ---


def test_inner_folds_stay_inside_the_training_side(store: FeatureStore) -> None:
    outer = store.split("icbhi", "official", "lungsound4")
    inner = store.split("icbhi", "official-inner3", "lungsound4")
    patient = dict(store.cycles("icbhi").select(["cycle_id", "patient"]).to_pandas().itertuples(index=False))
    assert inner.folds() == [0, 1, 2]
    held_out = [inner.side(fold, "test") for fold in inner.folds()]
    assert sorted(itertools.chain(*held_out)) == sorted(outer.side(0, "train"))
    for fold, cycles in enumerate(held_out):
        assert {patient[c] for c in cycles}.isdisjoint(patient[c] for c in inner.side(fold, "train"))


def test_describes_the_dataset(store: FeatureStore, synthetic_corpus: Path) -> None:
    corpus = open_corpus("icbhi", synthetic_corpus)
    about = store.dataset("icbhi")
    assert store.datasets() == ["icbhi"]
    assert about["synthetic"] is True
    assert about["recordings"] == about["recordings_listed"] == len(corpus.recordings)
    assert about["classes"]["lungsound4"] == ["normal", "crackle", "wheeze", "both"]
    assert set(about["metrics"].values()) == {"icbhi4"}
    assert set(store.splits("icbhi")) == set(corpus.splits())
    cycles = store.cycles("icbhi")
    assert cycles.drop_columns(["audio_hash", "annotation_hash"]).equals(corpus.cycle_table())


@pytest.mark.slow
def test_values_equal_direct_computation(
    store: FeatureStore, manifest: Manifest, synthetic_corpus: Path, tmp_path: Path
) -> None:
    spec = resolve_feature(manifest.spec)
    assert spec.feature_id == manifest.feature_id
    features = store.load("icbhi", manifest.feature_id, tmp_path)
    assert features.cycle_ids == sorted(features.cycle_ids)
    assert features.values.shape == (store.cycles("icbhi").num_rows, *spec.shape)
    assert features.content_hash == manifest.content_hash
    row = {cycle_id: index for index, cycle_id in enumerate(features.cycle_ids)}
    for recording in open_corpus("icbhi", synthetic_corpus).recordings:
        assert recording.audio
        waveform = load_recording(recording.audio, spec.sample_rate, spec.fade_seconds)
        for cycle in recording.cycles:
            alone = spec.compute(cut_cycles(waveform, [(cycle.start, cycle.end)], spec))[0]
            np.testing.assert_allclose(features.values[row[cycle.cycle_id]], alone, atol=1e-5)


LOAD = """
import json, os, sys
from pathlib import Path
from feature_store.store import FeatureStore
features = FeatureStore.open(sys.argv[1]).load("icbhi", sys.argv[2], Path(sys.argv[3]))
maps = [line.split() for line in open("/proc/self/maps") if line.rstrip().endswith(".npy")]
print(json.dumps([maps[0][1], maps[0][4], float(features.values.sum()), "torch" in sys.modules]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_all_processes_map_the_same_bytes(store: FeatureStore, manifest: Manifest, tmp_path: Path) -> None:
    """Two start at once with an empty cache; both end up with one inode, mapped read-only, without torch."""
    command = [sys.executable, "-c", LOAD, store.uri, manifest.feature_id, str(tmp_path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    told = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
    assert told[0] == told[1]
    access, inode, total, torch_loaded = told[0]
    (array,) = (tmp_path / "features").glob("*.npy")
    assert int(inode) == array.stat().st_ino
    assert "w" not in access
    assert not torch_loaded
    assert total == pytest.approx(float(np.load(array).sum()), rel=1e-6)


def test_what_is_mapped_cannot_be_written(store: FeatureStore, manifest: Manifest, tmp_path: Path) -> None:
    features = store.load("icbhi", manifest.feature_id, tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        features.values[0] = 0
    (array,) = (tmp_path / "features").glob("*.npy")
    assert array.stat().st_mode & 0o222 == 0


def test_an_interrupted_layout_is_done_again(store: FeatureStore, manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    stem = f"{manifest.feature_id}-{manifest.content_hash}"
    (folder / f"{stem}.partial").write_bytes(b"half")
    (folder / f"{stem}.json").write_text("[")
    assert len(store.load("icbhi", manifest.feature_id, tmp_path).cycle_ids) == manifest.rows


# --- what is damaged ---


def part_of(store: FeatureStore, manifest: Manifest) -> Path:
    path = store.storage.local_path(f"icbhi/features/{manifest.feature_id}/{manifest.parts[0].file}")
    assert path is not None
    return path


def test_a_sound_feature_verifies(store: FeatureStore, manifest: Manifest) -> None:
    assert verify_feature(store, "icbhi", manifest.feature_id) == []


@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_a_damaged_part_is_named(spoilt: FeatureStore, manifest: Manifest, tmp_path: Path, damage: str) -> None:
    part = part_of(spoilt, manifest)
    content = bytearray(part.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    else:
        del content[-100:]
    part.write_bytes(content)
    with pytest.raises(UserError, match=rf"{part.name}.*damaged"):
        spoilt.load("icbhi", manifest.feature_id, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))
    (problem,) = [p for p in verify_feature(spoilt, "icbhi", manifest.feature_id) if part.name in p]
    assert "damaged" in problem


def test_a_deleted_part_is_named(spoilt: FeatureStore, manifest: Manifest, tmp_path: Path) -> None:
    part = part_of(spoilt, manifest)
    part.unlink()
    assert any(part.name in p and "missing" in p for p in verify_feature(spoilt, "icbhi", manifest.feature_id))
    with pytest.raises(UserError, match=re.escape(part.name)):
        spoilt.load("icbhi", manifest.feature_id, tmp_path / "cache")


@pytest.mark.slow
def test_the_next_build_mends_a_deleted_part(
    spoilt: FeatureStore, manifest: Manifest, synthetic_corpus: Path, tmp_path: Path, store: FeatureStore
) -> None:
    """What the message advises must help: delete the file, build again."""
    part = part_of(spoilt, manifest)
    part.unlink()
    spec: Spec = resolve_feature(manifest.spec)
    report = build(open_corpus("icbhi", synthetic_corpus), spec, spoilt, workers=0)
    assert report.computed == sum(entry.part == part.name for entry in manifest.recordings.values())
    whole = rows_of(store, manifest.feature_id, tmp_path / "a")
    mended = rows_of(spoilt, manifest.feature_id, tmp_path / "b")
    assert whole.keys() == mended.keys()
    assert all(np.array_equal(whole[c], mended[c]) for c in whole)


def test_a_manifest_of_another_version_is_refused(spoilt: FeatureStore, manifest: Manifest) -> None:
    key = f"icbhi/features/{manifest.feature_id}/manifest.json"
    content = json.loads(spoilt.storage.read(key)) | {"version": 9}
    spoilt.storage.write(key, json.dumps(content).encode())
    with pytest.raises(UserError, match=r"version 9.*reads version 1"):
        spoilt.manifest("icbhi", manifest.feature_id)


@pytest.mark.slow
def test_a_stale_feature_is_refused(
    spoilt: FeatureStore, manifest: Manifest, synthetic_corpus: Path, tmp_path: Path
) -> None:
    """A recording was replaced and only another feature rebuilt."""
    root = copy_of(synthetic_corpus, tmp_path / "corpus")
    corpus = open_corpus("icbhi", root)
    name, audio = audio_of(corpus, 3)
    reverse_audio(audio)
    build(corpus, OTHER, spoilt, workers=0)
    with pytest.raises(UserError, match=rf"{manifest.feature_id} is out of date: 1 .*{name}"):
        spoilt.load("icbhi", manifest.feature_id, tmp_path / "cache")
    assert any("out of date" in problem for problem in verify_feature(spoilt, "icbhi", manifest.feature_id))
    assert verify_feature(spoilt, "icbhi", OTHER.feature_id) == []
    build(corpus, resolve_feature(manifest.spec), spoilt, workers=0)
    assert verify_feature(spoilt, "icbhi", manifest.feature_id) == []


@pytest.mark.slow
def test_a_stale_annotation_is_refused(
    spoilt: FeatureStore, manifest: Manifest, synthetic_corpus: Path, tmp_path: Path
) -> None:
    """The cycles were annotated again and only another feature rebuilt: rows would meet the wrong labels."""
    root = copy_of(synthetic_corpus, tmp_path / "corpus")
    annotation = open_corpus("icbhi", root).recordings[2].annotation
    assert annotation
    lines = annotation.read_text().splitlines()
    annotation.write_text("".join(f"{line}\n" for line in lines[1:]))
    build(open_corpus("icbhi", root), OTHER, spoilt, workers=0)
    with pytest.raises(UserError, match=rf"{manifest.feature_id} is out of date: 1 .*{annotation.stem}"):
        spoilt.load("icbhi", manifest.feature_id, tmp_path / "cache")


@pytest.mark.slow
def test_verify_names_recordings_that_a_feature_lacks(synthetic_corpus: Path, tmp_path: Path) -> None:
    """A recording came and only another feature was built. `load` still reads the state before, as after a kill."""
    root = copy_of(synthetic_corpus, tmp_path / "corpus")
    name, audio = audio_of(open_corpus("icbhi", root), 5)
    late = [(file, tmp_path / file.name) for file in (audio, audio.with_suffix(".txt"))]
    for file, aside in late:
        file.rename(aside)
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    early = OTHER.model_copy(update={"n_mels": 20})
    build(open_corpus("icbhi", root), early, store, workers=0)
    assert verify_feature(store, "icbhi", early.feature_id) == []
    for file, aside in late:
        aside.rename(file)
    build(open_corpus("icbhi", root), OTHER, store, workers=0)
    (problem,) = verify_feature(store, "icbhi", early.feature_id)
    assert re.search(rf"{early.feature_id} is incomplete: 1 recordings .*{name}.*features build", problem)
    assert len(store.load("icbhi", early.feature_id, tmp_path / "cache").cycle_ids) < store.cycles("icbhi").num_rows
    assert build(open_corpus("icbhi", root), early, store, workers=0).computed == 1
    assert verify_feature(store, "icbhi", early.feature_id) == []
    rows = store.load("icbhi", early.feature_id, tmp_path / "cache").cycle_ids
    assert sorted(rows) == sorted(store.cycles("icbhi")["cycle_id"].to_pylist())


def test_the_parts_hold_each_cycle_once(store: FeatureStore, manifest: Manifest) -> None:
    """In any order; their union is the cycle table."""
    folder = store.storage.local_path(f"icbhi/features/{manifest.feature_id}")
    assert folder
    stored = [c for part in manifest.parts for c in pq.read_table(folder / part.file)["cycle_id"].to_pylist()]
    assert sorted(stored) == sorted(store.cycles("icbhi")["cycle_id"].to_pylist())
