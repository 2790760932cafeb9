"""CycleGuardian's hybrid spectrogram against other implementations (docs/specification.md, D21, D22, F6 to F9, F15)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from feature_store.audio import cut_cycles, fit, load_recording
from feature_store.errors import UserError
from feature_store.features import NAMED, HybridSpec, resolve_feature
from feature_store.features.cqt import ConstantQ
from feature_store.features.gammatone import erb_centres, gammatone_weights

SPEC = HybridSpec()
RATE = SPEC.sample_rate
SMALL = HybridSpec(seconds=1.0, bins=24, bins_per_octave=6, low_hz=100.0)


def wave(hertz: float, length: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A bin's window by its definition, and each sample's distance from the centre of the frame."""
    window, place = signal.get_window("hann", length), np.arange(length) - length // 2
    return place, window / window.sum() * np.exp(-2j * np.pi * hertz * place / rate)


def tone(hertz: float, samples: int = SPEC.samples) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / RATE).astype(np.float32)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SPEC.samples).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def maps(noise: np.ndarray) -> torch.Tensor:
    return SPEC.decibels(noise)


@pytest.mark.spec("F15")
def test_three_maps_of_688_frames_and_84_bins() -> None:
    assert SPEC.shape == (3, 688, 84) and SPEC.channels == 3
    assert np.prod(SPEC.shape) * 4 == 693_504
    assert NAMED["hybrid-augmented"].stored_shape == (2, 3, 688, 84)


# --- constant-Q ---


@pytest.mark.spec("F6")
def test_constant_q_is_the_windowed_sum_of_its_definition(noise: np.ndarray, maps: torch.Tensor) -> None:
    """In double precision and one frame at a time: hop 256, 12 bins an octave from 32.7 Hz, windows of Q periods."""
    mirrored = np.pad(noise.astype(np.float64), 6000, mode="reflect")
    q = 1 / (2 ** (1 / 12) - 1)
    for index in (0, 7, 30, 52, 83):
        hertz = 32.7 * 2 ** (index / 12)
        place, kernel = wave(hertz, int(np.ceil(q * RATE / hertz)), RATE)
        expected = [abs(mirrored[6000 + 256 * frame + place] @ kernel) for frame in (0, 1, 343, 686, 687)]
        found = 10 ** (maps[0, [0, 1, 343, 686, 687], index].numpy() / 20)
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.spec("F6")
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 83), st.floats(-0.4, 0.4))
def test_a_tone_peaks_in_the_bin_nearest_to_it(index: int, aside: float) -> None:
    found = SPEC.constant_q.magnitude(tone(32.7 * 2 ** ((index + aside) / 12)))
    assert (found[30:-30].argmax(axis=1) == index).all()


@pytest.mark.spec("F6")
def test_440_hz_is_bin_45_and_has_half_its_amplitude() -> None:
    assert round(12 * np.log2(440 / 32.7)) == 45
    found = SPEC.constant_q.magnitude(tone(440.0))[30:-30]
    assert (found.argmax(axis=1) == 45).all()
    np.testing.assert_allclose(found[:, 45], 0.5, atol=1e-3)
    assert SPEC.constant_q.frequencies[-1] == pytest.approx(3950.7, abs=0.1)


# --- gammatone ---


@pytest.mark.spec("F7")
def test_gammatone_filters_are_those_of_their_impulse_response() -> None:
    """scipy's FIR design is the sampled impulse response, ours the poles and zeros: two ways to the same filter."""
    weights = gammatone_weights(RATE, 1024, 32.7, 3000.0, 84)
    for index in (0, 20, 50, 83):
        centre = erb_centres(32.7, 3000.0, 84)[index]
        taps, _ = signal.gammatone(centre, "fir", numtaps=8192, fs=RATE)
        hertz, response = signal.freqz(taps, worN=513, fs=RATE, include_nyquist=True)
        peak = np.abs(signal.freqz(taps, worN=[centre], fs=RATE)[1])
        near = np.abs(hertz - centre) < 150
        np.testing.assert_allclose(weights[near, index], np.abs(response[near]) / peak, atol=0.02)


@pytest.mark.spec("F7")
def test_centres_rise_evenly_on_the_erb_scale_from_32_7_to_below_3000() -> None:
    centres = erb_centres(32.7, 3000.0, 84)
    assert (np.diff(centres) > 0).all()
    assert centres[0] == pytest.approx(32.7) and 2850 < centres[-1] < 3000
    cams = np.diff(np.log(centres + 9.26449 * 24.7))
    np.testing.assert_allclose(cams, cams[0])
    weights = gammatone_weights(RATE, 1024, 32.7, 3000.0, 84)
    assert weights.shape == (513, 84) and weights.max() < 1.01
    np.testing.assert_allclose(weights.argmax(axis=0) * RATE / 1024, centres, atol=RATE / 1024)


@pytest.mark.spec("F7")
def test_gammatone_map_is_the_filtered_power_spectrum_of_scipy(noise: np.ndarray, maps: torch.Tensor) -> None:
    _, _, spectrum = signal.stft(
        np.pad(noise, 512, mode="reflect"), RATE, "hann", 1024, 768, boundary=None, padded=False
    )
    power = np.abs(spectrum * 512) ** 2  # scipy divides by the window's sum
    expected = 10 * np.log10(power.T @ gammatone_weights(RATE, 1024, 32.7, 3000.0, 84))
    np.testing.assert_allclose(maps[1], expected, atol=1e-2)


# --- mel ---


@pytest.mark.spec("F8")
def test_mel_map_is_torchaudios(noise: np.ndarray, maps: torch.Tensor) -> None:
    transform = MelSpectrogram(RATE, 1024, 1000, 256, 32.7, 3000.0, n_mels=84)
    expected = AmplitudeToDB("power")(transform(torch.from_numpy(noise))).T
    torch.testing.assert_close(maps[2], expected, atol=1e-3, rtol=0)
    assert (maps[2].std(dim=0) > 1).all(), "no filter is empty at the published size"


# --- standardisation and its guard ---


@pytest.mark.spec("F9")
def test_every_bin_has_mean_0_and_deviation_1_over_time(noise: np.ndarray) -> None:
    values = SPEC.compute([noise])[0].astype(np.float64)
    assert values.shape == (3, 688, 84)
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=1, ddof=1), 1, rtol=1e-4)


@pytest.mark.spec("F9")
def test_silence_is_all_zeros() -> None:
    assert not SPEC.compute([np.zeros(SPEC.samples, np.float32)]).any()


@pytest.mark.spec("F9")
@pytest.mark.parametrize("sound", ["constant", "one click", "half silent", "denormal", "clipped"])
def test_no_sound_makes_values_that_are_no_numbers(sound: str) -> None:
    waveform = {
        "constant": np.full(SPEC.samples, 0.25),
        "one click": np.eye(1, SPEC.samples, 1000)[0],
        "half silent": np.where(np.arange(SPEC.samples) < SPEC.samples // 2, 0, tone(300.0)),
        "denormal": tone(300.0) * 1e-30,
        "clipped": np.sign(tone(300.0)),
    }[sound].astype(np.float32)
    assert np.isfinite(SPEC.compute([waveform])).all()


@pytest.mark.spec("F9")
@pytest.mark.parametrize("samples", [1, 2, 100, 5000])
def test_a_cycle_shorter_than_a_window_is_repeated_and_gives_numbers(samples: int) -> None:
    cycle = np.random.default_rng(1).standard_normal(samples).astype(np.float32)
    [fitted] = cut_cycles(cycle, [(0.0, samples / RATE + 1e-6)], SPEC)
    assert np.isfinite(SPEC.compute([fitted])).all()


# --- the sound it hears ---


@pytest.mark.spec("D21")
def test_the_last_eight_seconds_of_a_longer_cycle_are_heard() -> None:
    ramp = np.arange(SPEC.samples + 5000, dtype=np.float32)
    np.testing.assert_array_equal(fit(ramp, SPEC), ramp[5000:])
    np.testing.assert_array_equal(fit(ramp, NAMED["fbank"]), ramp[: NAMED["fbank"].samples])
    stretched = NAMED["fbank"].model_copy(update={"pad": "stretch", "keep": "last"})
    np.testing.assert_array_equal(fit(ramp, stretched), ramp[-stretched.samples :])


@pytest.mark.spec("D22")
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3 * SMALL.samples))
def test_a_shorter_cycle_follows_itself(length: int) -> None:
    cycle = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    own = cycle[-SMALL.samples :]
    np.testing.assert_array_equal(fit(cycle, SMALL), own[np.arange(SMALL.samples) % len(own)])


def test_a_real_recording_gives_numbers(shared_data: Path) -> None:
    path = sorted((shared_data / "icbhi" / "audio").glob("*.flac"))[0]
    waveform = load_recording(path, RATE, SPEC.fade_seconds)
    values = SPEC.compute(cut_cycles(waveform, [(0.5, 3.0), (3.0, 13.0)], SPEC))
    assert values.shape == (2, 3, 688, 84) and np.isfinite(values).all()
    np.testing.assert_allclose(values.std(axis=2, ddof=1), 1, rtol=1e-3)


# --- what does not fit ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pad": "stretch"}, "three maps cannot be enlarged"),
        ({"clip_blank": True}, "three maps cannot be enlarged"),
        ({"bins": 120}, "above Nyquist"),
        ({"seconds": 0.2}, "too few for a bin at 32.7 Hz"),
        ({"mel_window": 2000}, "does not fit n_fft"),
        ({"high_hz": 12000.0}, "between 0 and 11000"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve_feature({"kind": "hybrid", **changes})


def test_a_filter_that_reaches_past_nyquist_is_cut_there() -> None:
    transform = ConstantQ(8000, 8000, 100, 14, 1900.0, 24)
    waveform = np.random.default_rng(2).standard_normal(8000).astype(np.float32)
    place, kernel = wave(1900.0 * 2 ** (13 / 24), int(transform.lengths[13]), 8000)
    assert np.abs(kernel @ np.exp(-1j * np.pi * place)) > 1e-5, "it does"
    mirrored = np.pad(waveform, transform.margin, mode="reflect")
    expected = [abs(mirrored[transform.margin + 100 * frame + place] @ kernel) for frame in range(transform.frames)]
    np.testing.assert_allclose(transform.magnitude(waveform)[:, 13], expected, atol=2e-4)
