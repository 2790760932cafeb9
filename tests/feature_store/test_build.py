"""Building: only what is missing, with what cannot be used left out, in a format that others read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store.build import RECORDINGS_A_PART, build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import FbankSpec
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from tests.support.corpora import HALF, SPEC, assert_same_rows, audio_of, rebuild, reverse_audio, rows_of


def content_of(store: FeatureStore) -> dict[str, bytes]:
    return {key: store.storage.read(key) for key in store.storage.list("")}


# --- incremental ---


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.spec("F15")
def test_the_second_build_computes_nothing(root: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.manifest("icbhi", SPEC)
    monkeypatch.setattr("feature_store.build.compute_recording", None)  # calling it would fail
    report = rebuild(root, store)
    assert (report.computed, report.cycles_computed, report.reused) == (0, 0, len(before.recordings))
    assert store.manifest("icbhi", SPEC).parts == before.parts


@pytest.mark.slow
@pytest.mark.spec("F15")
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
    assert verify_feature(store, "icbhi", SPEC.feature_id) == []


def test_a_changed_annotation_is_computed_again(root: Path, store: FeatureStore) -> None:
    recording = open_corpus("icbhi", root).recordings[0]
    assert recording.annotation
    lines = recording.annotation.read_text().splitlines()
    recording.annotation.write_text("\n".join(lines[:-1]) + "\n")
    report = rebuild(root, store)
    assert (report.computed, report.cycles_computed) == (1, len(lines) - 1)
    assert verify_feature(store, "icbhi", SPEC.feature_id) == []


@pytest.mark.slow
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
    assert verify_feature(store, "icbhi", SPEC.feature_id) == []


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


@pytest.mark.slow
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
