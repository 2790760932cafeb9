"""The representations against other implementations: torchaudio's Kaldi port, and plain numpy and scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torchaudio.compliance import kaldi

from feature_store.audio import cut_cycles, load_recording
from feature_store.errors import UserError
from feature_store.features import NAMED, FbankSpec, MelSpec, Spec, resolve_feature

FBANKS = {
    "published": FbankSpec(),
    "small": NAMED["fbank-small"],
    "odd": FbankSpec(sample_rate=4000, seconds=1.3, n_mels=20, frame_ms=30, shift_ms=7, low_hz=50, high_hz=1900),
}


def noise(spec: Spec, cycles: int = 3) -> np.ndarray:
    loudness = np.array([1e-4, 0.02, 0.5])[:cycles, None]
    return (loudness * np.random.default_rng(0).normal(size=(cycles, spec.samples))).astype(np.float32).clip(-1, 1)


def real_cycles(shared_data: Path, spec: Spec) -> np.ndarray:
    audio = shared_data / "icbhi" / "audio" / "101_1b1_Al_sc_Meditron.flac"
    spans = [tuple(map(float, line.split()[:2])) for line in audio.with_suffix(".txt").read_text().splitlines()]
    waveform = load_recording(audio, spec.sample_rate, spec.fade_seconds)
    return np.stack(cut_cycles(waveform, [(start, end) for start, end in spans], spec))


def kaldi_fbank(waveform: np.ndarray, spec: FbankSpec) -> np.ndarray:
    """What Patch-Mix computes for one cycle, by torchaudio."""
    energies = kaldi.fbank(
        torch.from_numpy(waveform)[None],
        htk_compat=True,
        sample_frequency=spec.sample_rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=spec.n_mels,
        dither=0.0,
        frame_length=spec.frame_ms,
        frame_shift=spec.shift_ms,
        low_freq=spec.low_hz,
        high_freq=spec.high_hz,
    )
    return ((energies - -4.2677393) / (2 * 4.5689974)).numpy()


def assert_equals_kaldi(waveforms: np.ndarray, spec: FbankSpec) -> None:
    batch = spec.compute(waveforms)
    assert (batch.shape, batch.dtype) == ((len(waveforms), *spec.shape), np.float32)
    for values, waveform in zip(batch, waveforms, strict=True):
        np.testing.assert_allclose(values, kaldi_fbank(waveform, spec), atol=1e-5, rtol=0)


# --- fbank ---


@pytest.mark.spec("F1")
def test_fbank_has_the_published_shape() -> None:
    assert FbankSpec().shape == (798, 128)
    assert FbankSpec().compute(noise(FbankSpec(), 1)).shape == (1, 798, 128)


@pytest.mark.spec("F1")
@pytest.mark.parametrize("name", FBANKS)
def test_fbank_equals_torchaudio_on_noise(name: str) -> None:
    spec = FBANKS[name]
    assert isinstance(spec, FbankSpec)
    assert_equals_kaldi(noise(spec), spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["published", "small"])
def test_fbank_equals_torchaudio_on_a_real_recording(shared_data: Path, name: str) -> None:
    spec = FBANKS[name]
    assert isinstance(spec, FbankSpec)
    assert_equals_kaldi(real_cycles(shared_data, spec), spec)


def test_a_cycle_does_not_depend_on_its_batch() -> None:
    spec = FbankSpec(seconds=1.0)
    waveforms = noise(spec)
    together = spec.compute(waveforms)
    for row, waveform in zip(together, waveforms, strict=True):
        np.testing.assert_allclose(row, spec.compute(waveform[None])[0], atol=1e-6)


@pytest.mark.parametrize("spec", [FbankSpec(), MelSpec()], ids=["fbank", "mel"])
def test_silence_is_finite_and_flat(spec: Spec) -> None:
    values = spec.compute(np.zeros((1, spec.samples), np.float32))
    assert np.isfinite(values).all()
    assert np.ptp(values) == 0
    floor = np.log(np.finfo(np.float32).eps) + 4.2677393, np.log(1e-5) + 4.5
    expected = floor[0] / (2 * 4.5689974) if isinstance(spec, FbankSpec) else floor[1] / 5
    assert values.max() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", [name for name, spec in NAMED.items() if not spec.copies])
@pytest.mark.parametrize("level", [0.0, 0.25], ids=["silent", "constant"])
def test_a_cycle_of_one_sample_and_one_that_says_nothing_have_finite_values_in_every_feature(
    name: str, level: float
) -> None:
    spec = NAMED[name]
    sound = np.full(2 * spec.samples, level, np.float32)
    cycles = cut_cycles(sound, [(0.0, 1.5 / spec.sample_rate), (0.0, spec.seconds)], spec)
    assert np.isfinite(spec.compute(cycles)).all()
    scalars = spec.compute_scalars(cycles, (0.0,) * spec.table)
    assert scalars is None or np.isfinite(scalars).all()


@pytest.mark.slow
def test_float16_storage_costs_less_than_a_thousandth(shared_data: Path) -> None:
    """Values of real cycles lie within +-2; float16 has 11 significant bits: at most 2^-11 below 2 (0.0005)."""
    spec = FbankSpec()
    values = spec.compute(real_cycles(shared_data, spec))
    error = np.abs(values.astype(np.float16).astype(np.float32) - values).max()
    assert 1e-5 < error <= 2.0**-11


# --- mel ---


def mel_by_hand(waveform: np.ndarray, spec: MelSpec) -> np.ndarray:
    """The formulas of MelSpec's docstring in float64, with filters made here."""
    signal = waveform.astype(np.float64)
    signal = signal[1:] - 0.97 * signal[:-1]
    window = np.zeros(spec.n_fft)
    margin = (spec.n_fft - spec.window) // 2
    window[margin : margin + spec.window] = scipy.signal.windows.hann(spec.window, sym=True)
    padded = np.pad(signal, spec.n_fft // 2, mode="reflect")
    starts = range(0, len(padded) - spec.n_fft + 1, spec.hop)
    power = np.stack([np.abs(np.fft.rfft(window * padded[s : s + spec.n_fft])) ** 2 for s in starts])

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)

    corners = np.linspace(mel(spec.low_hz), mel(spec.high_hz), spec.n_mels + 2)
    bins = mel(np.arange(spec.n_fft // 2 + 1) * spec.sample_rate / spec.n_fft)
    rising = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    filters = np.minimum(rising, falling).clip(min=0)
    return (np.log(power @ filters + 1e-5) + 4.5) / 5


@pytest.mark.parametrize("spec", [MelSpec(), MelSpec(seconds=1.0, n_mels=40, hop=400, window=1024)], ids=["all", "odd"])
def test_mel_equals_numpy(spec: MelSpec) -> None:
    waveforms = noise(spec)
    for values, waveform in zip(spec.compute(waveforms), waveforms, strict=True):
        assert values.shape == spec.shape
        np.testing.assert_allclose(values, mel_by_hand(waveform, spec), atol=2e-4)


def test_mel_has_the_shape_of_the_published_weights() -> None:
    assert MelSpec().shape == (400, 128)
    assert MelSpec().compute(noise(MelSpec(), 1)).shape == (1, 400, 128)


# --- refusals ---


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown feature 'fbnk'.*did you mean 'fbank'\?"):
        resolve_feature("fbnk")


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'n_mel'.*did you mean 'n_mels'\?"):
        resolve_feature({"kind": "fbank", "n_mel": 64})


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'fbanks'.*did you mean 'fbank'\?"):
        resolve_feature({"kind": "fbanks"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"n_mels": 64}, "is no feature"),
        ({"kind": "fbank", "n_mels": 0}, "n_mels"),
        ({"kind": "fbank", "seconds": 0.01}, "shorter than one window"),
        ({"kind": "fbank", "high_hz": 9000.0}, "between 0 and 8000 Hz"),
        ({"kind": "fbank", "low_hz": 4000.0, "high_hz": 3000.0}, "below high_hz"),
        ({"kind": "mel", "window": 2000}, "must fit n_fft"),
        ({"kind": "mel", "high_hz": 17000.0}, "between 0 and 16000 Hz"),
        ({"kind": "mel-db", "high_hz": 9000.0}, "between 0 and 8000 Hz"),
        ({"kind": "mel-db", "seconds": 0.05}, "shorter than n_fft"),
        ({"kind": "fbank", "copies": 17}, "copies"),
        ({"kind": "fbank", "pad": "aug"}, "pad"),
        ({"kind": "fbank", "shift_ms": 0.01}, "no samples"),
        ({"kind": "fbank", "frame_ms": 0.05}, "no samples"),
        ({"kind": ["fbank"]}, "unknown kind"),
        (7, "is no feature"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        resolve_feature(value)


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "fbank", "shift_ms": 0.0625, "seconds": 0.1},  # one sample a step
        {"kind": "fbank", "frame_ms": 0.125, "seconds": 0.1},  # two samples a window
        {"kind": "fbank", "n_mels": 512},  # more filters than FFT bins: some hold none
        {"kind": "mel", "seconds": 0.033},  # hardly more than one FFT
        {"kind": "mel-db", "seconds": 0.064},  # just one FFT
    ],
)
def test_the_smallest_specs_can_be_computed(value: dict[str, Any]) -> None:
    spec = resolve_feature(value)
    values = spec.compute(noise(spec, 1))
    assert values.shape == (1, *spec.shape)
    assert np.isfinite(values).all()
