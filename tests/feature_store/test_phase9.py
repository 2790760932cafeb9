"""Nine maps and 36 scalars: against librosa, against a second computation, and on sounds that break formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soundfile
from pydantic import ValidationError

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.features import NAMED, resolve_feature
from feature_store.features import phase9_maps as maps
from feature_store.features.chroma import constant_q
from feature_store.features.phase9 import CHANNELS, Phase9Spec
from feature_store.part_files import read_table, scalars_of
from feature_store.store import FeatureStore
from tests.feature_store.make_phase9_golden import FRAMES, GOLDEN, ROWS, clips
from tests.support.breathing_clips import write_clips, write_sound

SPEC = NAMED["phase9"]
SEED = Phase9Spec(lpc_frames="seed_compat")
STFT = Phase9Spec(ninth="stft")
EXACT = 5e-5  # of standardised values: librosa computes some steps in float32


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def real_clips(shared_data: Path) -> list[np.ndarray]:
    folder = shared_data / "breathing_phase" / "train"
    if not folder.is_dir():
        pytest.skip("no breathing-phase clips among the real data")
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.iterdir())[::400]]


# --- maps ---


@pytest.mark.spec("F12")
@pytest.mark.parametrize("spec", [SPEC, SEED, STFT], ids=["lpc", "lpc seed_compat", "stft"])
def test_nine_maps_in_the_order_of_their_names(spec: Phase9Spec) -> None:
    assert spec.shape == (9, 63, 128) and spec.channels == 9 and spec.scalars == 36
    assert list(spec.names) == sorted(spec.names) and len(spec.names) == 9
    assert set(CHANNELS) - set(spec.names) == ({"lpc"} if spec.ninth == "stft" else set())
    values = spec.compute(clips())
    assert values.shape == (2, 9, 63, 128) and values.dtype == np.float32 and np.isfinite(values).all()


@pytest.mark.spec("F12")
@pytest.mark.parametrize("name", sorted({*CHANNELS, "stft"}))
def test_a_map_is_librosas(name: str, golden: list[dict[str, Any]]) -> None:
    spec = STFT if name == "stft" else SEED
    computed = spec.compute(clips())[:, spec.names.index(name)]
    for own, published in zip(computed, golden, strict=True):
        wanted = np.array(published["maps"][name])
        found = own[np.ix_(FRAMES, ROWS)]
        np.testing.assert_allclose(found, wanted, atol=EXACT)


def test_the_constant_q_of_cens_is_the_windowed_sum_of_its_definition() -> None:
    """Three bins a semitone from C1, as many periods in each window, silence around the clip, times root length.

    But for the hundredth of each wave's spectrum that librosa leaves out, and the halving of the rate at the clip's
    ends, for which the sound begins and ends softly here.
    """
    sound, tuned = clips()[1] * np.hanning(16000).astype(np.float32), 0.12
    found = np.abs(constant_q(sound, 16000, 256, tuned))
    assert found.shape == (252, 63)
    around = np.pad(sound.astype(np.float64), 16000)
    for index in (0, 40, 130, 251):
        hertz = 32.7032 * 2 ** ((index + tuned) / 36)
        length = (2 ** (1 / 18) + 1) / (2 ** (1 / 18) - 1) * 16000 / hertz
        place = np.arange(np.floor(-length / 2), np.floor(length / 2)).astype(int)
        window = scipy.signal.get_window("hann", len(place))
        wave = window / window.sum() * np.exp(-2j * np.pi * hertz * place / 16000) * np.sqrt(length)
        expected = np.array([abs(around[16000 + 256 * frame + place] @ wave) for frame in range(63)])
        np.testing.assert_allclose(found[index], expected, atol=7e-3 * found.max())


@pytest.mark.spec("F12")
def test_values_are_standardised_before_they_are_padded() -> None:
    values = dict(zip(SPEC.names, SPEC.compute(clips())[0], strict=True))
    own_rows = {"gammatone": 64, "lpc": 12, "mod_spec": 40, "mel": 128, "mel_delta": 128, "mel_delta2": 128}
    for name, rows in own_rows.items():
        inside, padding = values[name][:, :rows], values[name][:, rows:]
        assert abs(inside.mean()) < 1e-4 and abs(inside.std() - 1) < 1e-3, name
        assert (padding == inside.min()).all(), name
    for name, rows in (("chroma", 24), ("mfcc", 120)):
        inside, padding = values[name][:, :rows], values[name][:, rows:]
        spread = inside.std(axis=0)
        assert np.abs(inside.mean(axis=0)).max() < 1e-4, name
        assert (np.isclose(spread, 1, atol=1e-3) | (spread < 1e-3)).all(), f"{name}: a row that never changes is 0"
        assert (padding == inside.min()).all(), name


@pytest.mark.spec("F12")
def test_aligned_linear_prediction_covers_the_whole_clip_and_the_sources_does_not() -> None:
    clip = clips()[0].copy()
    changed = clip.copy()
    changed[12000:] += 0.1 * np.random.default_rng(0).normal(size=4000).astype(np.float32)
    index = SPEC.names.index("lpc")

    def raw(spec: Phase9Spec, sound: np.ndarray) -> np.ndarray:
        return maps.lpc(sound, 63, 16000, aligned=spec.lpc_frames == "aligned")

    unheard = "all after 0.645 s is heard in the common mean and deviation only"
    np.testing.assert_allclose(maps.whole(raw(SEED, clip)), maps.whole(raw(SEED, changed)), atol=1e-9, err_msg=unheard)
    aligned = raw(SPEC, clip) != raw(SPEC, changed)
    assert aligned[:, 50:].any(axis=0).all()
    assert not np.array_equal(SPEC.compute([clip])[0, index], SEED.compute([clip])[0, index])


def test_linear_prediction_of_the_source_ends_where_its_windows_do() -> None:
    """At 48 kHz there are 98 windows and 188 frames: the rest holds the map's least value."""
    spec = Phase9Spec(sample_rate=48000, lpc_frames="seed_compat")
    sound = np.random.default_rng(3).normal(size=48000).astype(np.float32)
    values = spec.compute([sound])[0, spec.names.index("lpc")]
    assert values.shape == (188, 128) and (values[98:] == values.min()).all()
    assert values[:98, :12].std(axis=1).min() > 0.1


def test_burg_finds_the_filter_that_made_the_sound() -> None:
    noise = np.random.default_rng(2).normal(size=4000)
    made = scipy.signal.lfilter([1.0], [1.0, -1.3, 0.8], noise)
    (found,) = maps.burg(made[None], 2)
    np.testing.assert_allclose(found, [1.0, -1.3, 0.8], atol=0.03)
    assert maps.burg(np.zeros((1, 50)), 3).tolist() == [[1.0, 0.0, 0.0, 0.0]]


# --- scalars ---


@pytest.mark.spec("F13")
def test_scalars_are_librosas_in_the_published_order(golden: list[dict[str, Any]]) -> None:
    found = SPEC.compute_scalars(clips())
    assert found is not None and found.shape == (2, 36)
    for own, published in zip(found, golden, strict=True):
        np.testing.assert_allclose(own, published["scalars"], rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.spec("F13")
def test_scalars_of_ten_real_clips_by_a_second_computation(real_clips: list[np.ndarray]) -> None:
    """All but the contrast and the flux, which stand in the golden values; frame by frame, by scipy's functions."""
    found = SPEC.compute_scalars(real_clips)
    assert found is not None and len(found) == 10
    window = scipy.signal.get_window("hann", 2048)
    hertz = np.fft.rfftfreq(2048, 1 / 16000)
    for own, clip in zip(found, real_clips, strict=True):
        y = clip.astype(np.float64)
        silent, held = np.pad(y, 1024), np.pad(y, 1024, mode="edge")
        level, crossings, centroids, widths, flat, rolled = [], [], [], [], [], []
        for start in range(0, 16001, 256):
            frame = silent[start : start + 2048]
            level.append(np.sqrt(np.mean(frame**2)))
            signs = held[start : start + 2048] < 0
            crossings.append((signs[1:] != signs[:-1]).sum() / 2048)
            size = np.abs(np.fft.rfft(frame * window))
            centroids.append((hertz * size).sum() / size.sum())
            widths.append(np.sqrt((size * (hertz - centroids[-1]) ** 2).sum() / size.sum()))
            flat.append(scipy.stats.gmean(np.maximum(size**2, 1e-10)) / np.maximum(size**2, 1e-10).mean())
            if start % 512 == 0:
                rolled.append(hertz[np.searchsorted(np.cumsum(size), 0.85 * size.sum())])
        wanted = [f(row) for row in (level, crossings) for f in (np.mean, np.std, np.max, np.min)]
        wanted += [np.mean(centroids) / 8000, np.std(centroids) / 8000, scipy.stats.skew(centroids)]
        wanted += [f(row) / 8000 for row in (widths, rolled) for f in (np.mean, np.std)]
        wanted += [np.mean(flat), np.std(flat)]
        np.testing.assert_allclose(own[:17], wanted, rtol=2e-3, atol=1e-5)
        envelope = np.abs(scipy.signal.hilbert(y))
        peaks = scipy.signal.find_peaks(envelope, height=envelope.mean(), distance=1600)[0]
        wanted = [envelope.mean(), envelope.std(), envelope.mean() / envelope.std(), len(peaks)]
        wanted += [envelope[peaks].mean(), envelope[peaks].std()]
        np.testing.assert_allclose(own[19:25], wanted, rtol=1e-3)
        _, _, short = scipy.signal.stft(y, nperseg=512, noverlap=256, boundary="zeros", padded=False)
        energy = (np.abs(short) ** 2).sum(axis=1)
        assert own[25] == pytest.approx(energy[:32].sum() / energy.sum(), rel=1e-3)
        wanted = [scipy.stats.skew(y), scipy.stats.kurtosis(y), *np.quantile(np.abs(y), (0.9, 0.1))]
        repeated = [np.dot(y[lag:], y[: len(y) - lag]) / np.dot(y, y) for lag in range(800)]
        wanted += [repeated[160], repeated[320], np.argmin(repeated) / 16000]
        np.testing.assert_allclose(own[29:], wanted, rtol=1e-3, atol=1e-6)


# --- sounds that break formulas ---


@pytest.mark.parametrize("spec", [SPEC, SEED, STFT], ids=["lpc", "lpc seed_compat", "stft"])
@pytest.mark.parametrize("sound", ["silent", "constant", "one click", "full scale", "barely there"])
def test_no_sound_makes_a_value_that_is_no_number(spec: Phase9Spec, sound: str) -> None:
    clip = {
        "silent": np.zeros(16000),
        "constant": np.full(16000, 0.25),
        "one click": np.eye(1, 16000, 8000)[0],
        "full scale": np.where(np.arange(16000) % 2, 1.0, -1.0),
        "barely there": 1e-20 * np.random.default_rng(0).normal(size=16000),
    }[sound].astype(np.float32)
    scalars = spec.compute_scalars([clip])
    assert np.isfinite(spec.compute([clip])).all() and scalars is not None and np.isfinite(scalars).all()


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 100, 511, 8000, 16001, 40000])
def test_a_clip_of_any_length_is_padded_with_silence_or_cut(tmp_path: Path, samples: int) -> None:
    root = write_clips(tmp_path / "clips", count=4)
    name = "steth_20180814_09_00_11_000"
    sound = np.random.default_rng(1).uniform(-0.3, 0.3, samples).astype(np.float32)
    write_sound(root / "train" / f"{name}.wav", sound)
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    report = build(open_corpus("breathing-phase", root), SPEC, store, workers=0)
    assert not report.failed and report.cycles == 4
    features = store.load("breathing-phase", SPEC.feature_id, tmp_path / "cache")
    assert features.scalars is not None and np.isfinite(features.scalars).all() and np.isfinite(features.values).all()


# --- the store ---


@pytest.mark.slow
@pytest.mark.spec("F15")
def test_a_row_holds_maps_and_scalars_and_is_computed_once(tmp_path: Path) -> None:
    root = write_clips(tmp_path / "clips", count=20)
    corpus, store = open_corpus("breathing-phase", root), FeatureStore.open(str(tmp_path / "store"), create=True)
    first = build(corpus, SPEC, store, workers=0)
    again = build(corpus, SPEC, store, workers=0)
    assert (first.computed, again.computed, again.reused) == (20, 0, 20)
    manifest = store.manifest("breathing-phase", "phase9")
    assert manifest.scalars == 36 and manifest.shape == [9, 63, 128]
    folder = f"breathing-phase/features/{SPEC.feature_id}"
    table = read_table(store.storage, folder, manifest.parts[0])
    row = table.slice(0, 1)
    width = row["values"].type.list_size * 4 + row["scalars"].type.list_size * 4
    assert width == 290_448, "bytes of a clip, as the source system's"
    features = store.load("breathing-phase", SPEC.feature_id, tmp_path / "cache")
    for part in manifest.parts:
        table = read_table(store.storage, folder, part)
        for cycle_id, stored in zip(table["cycle_id"].to_pylist(), scalars_of(table), strict=True):
            place = features.cycle_ids.index(cycle_id)
            (recording,) = [r for r in corpus.recordings if r.cycles[0].cycle_id == cycle_id]
            wanted = SPEC.compute_scalars([soundfile.read(recording.audio, dtype="float32")[0]])
            assert features.scalars is not None and wanted is not None
            np.testing.assert_array_equal(features.scalars[place], stored)
            np.testing.assert_array_equal(stored, wanted[0])


@pytest.mark.slow
def test_a_removed_clip_takes_its_scalars_along(tmp_path: Path) -> None:
    root = write_clips(tmp_path / "clips", count=6)
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(open_corpus("breathing-phase", root), SPEC, store, workers=0)
    before = store.load("breathing-phase", SPEC.feature_id, tmp_path / "cache")
    (root / "train" / "steth_20180814_09_00_11_001.wav").unlink()
    build(open_corpus("breathing-phase", root), SPEC, store, workers=0)
    after = store.load("breathing-phase", SPEC.feature_id, tmp_path / "cache")
    kept = [before.cycle_ids.index(cycle_id) for cycle_id in after.cycle_ids]
    assert len(kept) == 5 and before.scalars is not None and after.scalars is not None
    np.testing.assert_array_equal(after.scalars, before.scalars[kept])
    np.testing.assert_array_equal(after.values, before.values[kept])


@pytest.mark.parametrize("change", [{"pad": "stretch"}, {"copies": 2}, {"clip_blank": True}, {"sample_rate": 8000}])
def test_settings_that_make_no_sense_for_it_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Phase9Spec(**change)


def test_the_default_has_a_short_name() -> None:
    assert resolve_feature("phase9") == Phase9Spec()
