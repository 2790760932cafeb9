"""A cycle fitted by augmented copies of itself or by stretching, its stored copies, and the band-pass filter."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.audio import band_pass, cut_cycles, fade, fit, fit_length, load_recording, with_copies
from feature_store.errors import UserError
from feature_store.features import NAMED, FbankSpec, MelDbSpec, MelSpec, Spec, resolve_feature
from feature_store.waveform import augment, generator_of

SPEC = FbankSpec(seconds=2.0, n_mels=32, pad="augment")
STRETCHED = [
    FbankSpec(pad="stretch"),
    MelSpec(pad="stretch"),
    MelDbSpec(pad="stretch"),
]


def hiss(length: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=length)).astype(np.float32)


def with_pad(spec: Spec, pad: str, **others) -> Spec:
    return spec.model_copy(update={"pad": pad, **others})


# --- pad: augment ---


@pytest.mark.spec("D20")
@settings(max_examples=25, deadline=None)
@given(length=st.integers(300, 40000))
def test_augment_fills_to_the_length(length: int) -> None:
    cycle = hiss(length)
    fitted = fit(cycle, SPEC)
    assert (len(fitted), fitted.dtype) == (SPEC.samples, np.float32)
    assert np.isfinite(fitted).all()
    untouched = min(length, SPEC.samples - 1000 if length <= SPEC.samples else SPEC.samples)
    np.testing.assert_array_equal(fitted[:untouched], cycle[:untouched])


@pytest.mark.spec("D20")
def test_augment_appends_copies_each_changed_by_one_operator() -> None:
    cycle = hiss(7000)
    rng, expected = generator_of(cycle, "pad"), [cycle]
    while sum(map(len, expected)) < SPEC.samples:
        expected.append(augment(cycle, SPEC.sample_rate, rng))
    whole = np.concatenate(expected)[: SPEC.samples]
    np.testing.assert_array_equal(fit(cycle, SPEC), fade(whole, 1000, start=False))
    assert not np.array_equal(fit(cycle, SPEC), fit_length(cycle, SPEC.samples, "repeat", 1000))


@pytest.mark.spec("D20")
def test_augment_is_the_same_each_time_and_another_for_another_cycle() -> None:
    np.testing.assert_array_equal(fit(hiss(7000), SPEC), fit(hiss(7000), SPEC))
    one, other = fit(hiss(7000), SPEC)[7000:], fit(hiss(7001), SPEC)[7001:]
    assert not np.array_equal(one[:2000], other[:2000])


@pytest.mark.spec("D20")
def test_augment_does_not_depend_on_the_other_cycles() -> None:
    waveform, spans = hiss(80000), [(0.0, 0.7), (1.0, 1.9), (2.0, 4.5)]
    together = cut_cycles(waveform, spans, SPEC)
    for cycle, span in zip(together, spans, strict=True):
        np.testing.assert_array_equal(cycle, cut_cycles(waveform, [span], SPEC)[0])


# --- pad: stretch ---


def by_scipy(image: np.ndarray, frames: int) -> np.ndarray:
    """Linear interpolation along time between the centres of the frames."""
    places = np.clip((np.arange(frames) + 0.5) * len(image) / frames - 0.5, 0, len(image) - 1)
    return scipy.ndimage.map_coordinates(
        image.astype(np.float64), np.meshgrid(places, np.arange(image.shape[1]), indexing="ij"), order=1
    )


@pytest.mark.spec("D20")
@pytest.mark.parametrize("spec", STRETCHED, ids=["fbank", "mel", "mel-db"])
@pytest.mark.parametrize("share", [0.05, 0.37, 1.0])
def test_stretch_enlarges_the_spectrogram_of_the_cycle_s_own_length(spec: Spec, share: float) -> None:
    cycle = hiss(round(share * spec.samples))
    (values,) = spec.compute([fit(cycle, spec)])
    own = type(spec).model_validate({"kind": spec.kind, "seconds": len(cycle) / spec.sample_rate})
    (image,) = own.compute(cycle[None])
    assert len(image) == pytest.approx(share * spec.shape[0], abs=3)
    np.testing.assert_allclose(values, by_scipy(image, spec.shape[0]), atol=1e-4)


@pytest.mark.spec("D20")
def test_stretch_gives_798_frames_to_all_cycles() -> None:
    spec = FbankSpec(pad="stretch")
    values = spec.compute(cut_cycles(hiss(400000), [(0.0, 0.3), (1.0, 4.0), (5.0, 25.0)], spec))
    assert values.shape == (3, 798, 128)
    assert np.isfinite(values).all()


@pytest.mark.spec("D20")
def test_stretch_keeps_the_first_samples_of_a_longer_cycle() -> None:
    cycle = hiss(200000)
    (values,) = FbankSpec(pad="stretch").compute([fit(cycle, FbankSpec(pad="stretch"))])
    np.testing.assert_array_equal(values, FbankSpec().compute(cycle[None, :128000])[0])


@pytest.mark.spec("D20")
@pytest.mark.parametrize(("spec", "shortest"), list(zip(STRETCHED, [400, 1025, 1024], strict=True)))
def test_a_cycle_shorter_than_a_window_is_refused(spec: Spec, shortest: int) -> None:
    assert spec.compute([hiss(shortest)]).shape == (1, *spec.shape)
    with pytest.raises(UserError, match=rf"{shortest - 1} samples is shorter than a window.*{shortest}"):
        spec.compute([hiss(shortest - 1)])


def test_another_length_is_refused_unless_stretched() -> None:
    """One frame would be broadcast to all without a word."""
    with pytest.raises(ValueError, match="400 samples instead of 128000"):
        FbankSpec().compute([hiss(400)])


# --- copies ---


@pytest.mark.spec("A6")
@pytest.mark.parametrize("pad", ["repeat", "zero", "augment", "stretch"])
def test_each_copy_is_the_one_before_changed_once_and_fitted_again(pad: str) -> None:
    spec = with_pad(SPEC, pad, copies=4)
    cycle = fit(hiss(20000), spec)
    versions = with_copies(cycle, spec)
    rng = generator_of(cycle, "copies")
    assert len(versions) == 5
    np.testing.assert_array_equal(versions[0], cycle)
    for before, after in itertools.pairwise(versions):
        np.testing.assert_array_equal(after, fit(augment(before, spec.sample_rate, rng), spec))
        assert not np.array_equal(before, after)
    if pad != "stretch":
        assert {len(version) for version in versions} == {spec.samples}
    assert np.isfinite(spec.compute(versions)).all()


@pytest.mark.spec("A6")
def test_without_copies_there_is_the_cycle_alone() -> None:
    (only,) = with_copies(fit(hiss(20000), SPEC), SPEC)
    np.testing.assert_array_equal(only, fit(hiss(20000), SPEC))
    assert SPEC.stored_shape == SPEC.shape


@pytest.mark.spec("A6")
def test_fewer_copies_are_the_first_of_more() -> None:
    cycle = fit(hiss(20000), SPEC)
    few, many = (with_copies(cycle, with_pad(SPEC, "repeat", copies=count)) for count in (2, 5))
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, other)


# --- band pass ---


@pytest.mark.spec("D24")
def test_the_pass_band_of_a_sweep_stays_within_3_db(tmp_path: Path) -> None:
    """Level out over level in of a sine that sweeps 20 to 4,000 Hz in 20 s, in windows of 0.1 s."""
    rate, seconds = 16000, 20
    time = np.arange(seconds * rate) / rate
    hertz = 20 + 199 * time
    sweep = (0.5 * np.sin(2 * np.pi * (20 * time + 99.5 * time**2))).astype(np.float32)
    path = tmp_path / "sweep.wav"
    soundfile.write(path, sweep, rate, subtype="PCM_24")
    filtered = load_recording(path, rate, 0.0, (200.0, 1800.0))
    assert (filtered.shape, filtered.dtype) == (sweep.shape, np.float32)
    levels = [np.sqrt(np.square(x.reshape(-1, 1600)).mean(axis=1)) for x in (filtered, sweep)]
    decibels, hertz = 20 * np.log10(levels[0] / levels[1]), hertz.reshape(-1, 1600).mean(axis=1)
    inside = (hertz > 225) & (hertz < 1775)  # a window spans 20 Hz
    assert inside.sum() > 70
    assert np.abs(decibels[inside]).max() < 3
    assert decibels[(hertz < 80) | (hertz > 3600)].max() < -30


@pytest.mark.spec("D24")
def test_the_edges_are_3_db_down() -> None:
    impulse = np.zeros(16000, np.float32)
    impulse[0] = 1
    response = np.abs(np.fft.rfft(band_pass(impulse, 16000, (200.0, 1800.0))))  # one bin a Hz
    assert 20 * np.log10(response[[200, 1800]]) == pytest.approx([-3.01, -3.01], abs=0.02)
    assert response[800] == pytest.approx(1, abs=0.01)


@pytest.mark.spec("D24")
def test_the_filter_comes_before_the_fade(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, hiss(64000), 16000, subtype="PCM_24")
    plain = load_recording(path, 16000, 0.0)
    expected = fade(band_pass(plain, 16000, (200.0, 1800.0)), 1000)
    np.testing.assert_array_equal(load_recording(path, 16000, 0.0625, (200.0, 1800.0)), expected)


@pytest.mark.spec("D24")
@pytest.mark.parametrize("band", [(0, 100), (300, 200), (200, 200), (200, 8000), (-5, 100)])
@pytest.mark.parametrize("kind", ["fbank", "mel-db"])
def test_a_band_that_is_none_is_refused(kind: str, band: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="two rising frequencies between 0 and 8000 Hz"):
        resolve_feature({"kind": kind, "band_pass": band})


def test_named_features_filter_nothing_and_one_has_copies() -> None:
    assert {(spec.band_pass, spec.clip_blank, spec.denoise) for spec in NAMED.values()} == {(None, False, 0.0)}
    assert [name for name, spec in NAMED.items() if spec.copies] == ["hybrid-augmented"]
    assert [name for name, spec in NAMED.items() if spec.pad != "repeat"] == ["phase9"]
