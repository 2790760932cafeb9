"""F2, the mel spectrogram in decibels, against its definition written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.features import MelDbSpec

SPECS = {
    "published": MelDbSpec(),
    "small": MelDbSpec(seconds=1.3, n_mels=40, n_fft=512, hop=200, low_hz=0, high_hz=7900),
}


def slaney_mel(hertz: np.ndarray) -> np.ndarray:
    """Linear below 1 kHz, 200/3 Hz a mel; above it 27 mel for each factor of 6.4."""
    above = 15 + 27 * np.log(np.maximum(hertz, 1e-9) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, hertz * 3 / 200, above)


def slaney_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def by_definition(waveform: np.ndarray, spec: MelDbSpec) -> np.ndarray:
    padded = np.pad(waveform.astype(np.float64), spec.n_fft // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.n_fft) / spec.n_fft)
    frames = [padded[s : s + spec.n_fft] * window for s in range(0, len(waveform) + 1, spec.hop)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    ends = slaney_mel(np.array([spec.low_hz, spec.high_hz]))
    corners = slaney_hertz(np.linspace(ends[0], ends[1], spec.n_mels + 2))
    hertz = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)
    energy = np.empty((len(frames), spec.n_mels))
    for m in range(spec.n_mels):
        low, centre, high = corners[m : m + 3]
        triangle = np.clip(np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)), 0, None)
        energy[:, m] = power @ (triangle * 2 / (high - low))
    decibels = 10 * np.log10(np.maximum(energy, 1e-10))
    decibels = np.maximum(decibels - decibels.max(), -80)
    return (decibels - decibels.min()) / np.ptp(decibels)


def sound(spec: MelDbSpec, loudness: float) -> np.ndarray:
    """Noise that decays, with a tone in it."""
    time = np.arange(spec.samples) / spec.sample_rate
    noise = np.random.default_rng(0).normal(size=spec.samples) * np.exp(-3 * time)
    return (loudness * (noise + np.sin(2 * np.pi * 300 * time))).astype(np.float32)


@pytest.mark.spec("F2")
def test_mel_db_has_the_published_shape() -> None:
    assert MelDbSpec().shape == (251, 128)
    assert MelDbSpec(n_mels=64).shape == (251, 64)


@pytest.mark.spec("F2")
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("loudness", [1e-3, 0.3])
def test_mel_db_equals_its_definition(name: str, loudness: float) -> None:
    spec = SPECS[name]
    waveform = sound(spec, loudness)
    (values,) = spec.compute(waveform[None])
    assert (values.shape, values.dtype) == (spec.shape, np.float32)
    np.testing.assert_allclose(values, by_definition(waveform, spec), atol=2e-4)


@pytest.mark.spec("F2")
def test_values_span_zero_to_one() -> None:
    values = MelDbSpec().compute(np.stack([sound(MelDbSpec(), loudness) for loudness in (1e-3, 0.3)]))
    assert values.min(axis=(1, 2)).tolist() == [0, 0]
    assert values.max(axis=(1, 2)).tolist() == [1, 1]


@pytest.mark.spec("F2")
def test_silence_is_all_zeros() -> None:
    values = MelDbSpec().compute(np.zeros((1, MelDbSpec().samples), np.float32))
    assert not values.any()
