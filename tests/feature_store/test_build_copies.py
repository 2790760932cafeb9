"""A6, A14: augmented copies are built, stored and read beside their cycle, the same however they are built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.audio import cut_cycles, load_recording, with_copies
from feature_store.build import compute_recording
from feature_store.datasets import open_corpus
from feature_store.store import FeatureStore
from feature_store.verify import verify_feature
from tests.support.corpora import SPEC, assert_same_rows, audio_of, rebuild, reverse_audio, rows_of

pytestmark = pytest.mark.slow

COPIED = SPEC.model_copy(update={"copies": 2, "dtype": "float16"})


def built(root: Path, place: Path) -> FeatureStore:
    store = FeatureStore.open(str(place), create=True)
    assert rebuild(root, store, COPIED).failed == []
    return store


@pytest.mark.spec("A6")
def test_n_plus_1_versions_are_stored_the_cycle_itself_first(root: Path, tmp_path: Path) -> None:
    store = built(root, tmp_path / "store")
    manifest = store.manifest("icbhi", COPIED)
    assert manifest.shape == [3, *SPEC.shape]
    rows = rows_of(store, COPIED.feature_id, tmp_path)
    assert verify_feature(store, "icbhi", COPIED.feature_id) == []
    for recording in open_corpus("icbhi", root).recordings[:3]:
        assert recording.audio
        waveform = load_recording(recording.audio, SPEC.sample_rate, SPEC.fade_seconds)
        for cycle in recording.cycles:
            (fitted,) = cut_cycles(waveform, [(cycle.start, cycle.end)], COPIED)
            values = COPIED.compute(with_copies(fitted, COPIED)).astype(np.float16)
            np.testing.assert_array_equal(rows[cycle.cycle_id], values)
            np.testing.assert_array_equal(values[:1], SPEC.compute([fitted]).astype(np.float16))
            assert all(np.abs(copy - values[0]).max() > 0.01 for copy in values[1:])


@pytest.mark.spec("A6")
def test_a_build_in_two_steps_gives_what_one_gives(root: Path, tmp_path: Path) -> None:
    """One recording is replaced and put back: only it is computed again, and all copies are as before."""
    store = built(root, tmp_path / "store")
    before = rows_of(store, COPIED.feature_id, tmp_path / "cache")
    name, audio = audio_of(open_corpus("icbhi", root), 4)
    content = audio.read_bytes()
    reverse_audio(audio)
    assert rebuild(root, store, COPIED).computed == 1
    between = rows_of(store, COPIED.feature_id, tmp_path / "cache")
    changed = {cycle.rsplit("#")[0] for cycle in before if not np.array_equal(before[cycle], between[cycle])}
    assert changed == {name}
    audio.write_bytes(content)
    assert rebuild(root, store, COPIED).computed == 1
    assert_same_rows(rows_of(store, COPIED.feature_id, tmp_path / "cache"), before)


@pytest.mark.spec("D20")
def test_a_build_stretches_and_fills_as_inference_does(root: Path) -> None:
    """What a recording's stored values are, computed as a model does that predicts it alone."""
    recording = open_corpus("icbhi", root).recordings[0]
    assert recording.audio
    for pad in ("augment", "stretch"):
        spec = SPEC.model_copy(update={"pad": pad, "seconds": 6.0, "band_pass": (100.0, 1800.0)})
        values, _ = compute_recording(recording, spec)
        waveform = load_recording(recording.audio, spec.sample_rate, spec.fade_seconds, spec.band_pass)
        for row, cycle in zip(values, recording.cycles, strict=True):
            alone = spec.compute(cut_cycles(waveform, [(cycle.start, cycle.end)], spec))
            np.testing.assert_array_equal(row, alone[0])
        assert values.shape == (len(recording.cycles), *spec.shape)


@pytest.mark.spec("A14")
def test_copies_with_noise_are_stored_beside_their_cycle(root: Path, tmp_path: Path) -> None:
    """Noise of 0.05 is as loud as the recordings: every frame of a copy rises, and those that have none are equal."""
    noisy = COPIED.model_copy(update={"copies": 1, "copy_by": "noise", "noise_sigma": 0.05, "noise_share": 0.3})
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    assert rebuild(root, store, noisy).failed == []
    rows = np.stack(list(rows_of(store, noisy.feature_id, tmp_path).values())).astype(np.float32)
    assert rows.shape[1:] == (2, *SPEC.shape)
    risen = (rows[:, 1] - rows[:, 0]).mean(axis=(1, 2))
    changed = (rows[:, 1] != rows[:, 0]).any(axis=(1, 2))
    assert (risen[changed] > 0.05).all() and not risen[~changed].any()
    assert 0.4 < changed.mean() < 0.8, "0.6 of the copies, of which half are drawn"
