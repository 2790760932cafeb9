"""The 36 scalars of the breathing-phase classifier, in its order (docs/specification.md, 5.3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from feature_store.features.phase9_maps import HOP, N_FFT
from feature_store.features.spectra import decibels, frames_of, magnitudes, mel_filters

FRAME = 2048  # samples of a window, and of the FFT
ROLLOFF_SHARE, ROLLOFF_HOP = 0.85, 512
CONTRAST_HZ = (200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0)  # upper edges of the bands
CONTRAST_SHARE = 0.02  # of a band's bins that are its peak, and its valley
LOW_HZ = 1000.0
MELS = 128
COUNT = 36


def scalars(waveform: np.ndarray, spectrum: np.ndarray, rate: int) -> np.ndarray:
    """All of one clip, ``[36]`` float32, finite: what is not defined, as the skew of silence, is 0.

    Args:
        waveform: ``[samples]``.
        spectrum: ``[257, frames]`` magnitudes of its 512-point STFT.
        rate: Hz.
    """
    long = magnitudes(waveform, FRAME, HOP)
    with np.errstate(all="ignore"):
        groups = (
            _loudness(waveform),
            _spectral(long.astype(np.float64), rate),
            _envelope(waveform, rate),
            _change(spectrum, long, rate),
            _shape(waveform),
            _repetition(waveform, rate),
        )
        found = np.array([value for group in groups for value in group], dtype=np.float64)
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def _loudness(waveform: np.ndarray) -> Iterator[float]:
    """Root mean square and zero crossings of every window: mean, deviation, greatest, least."""
    level = np.sqrt((frames_of(waveform, FRAME, HOP).astype(np.float64) ** 2).mean(axis=1))
    padded = np.pad(waveform, FRAME // 2, mode="edge")
    quiet = np.where(np.abs(padded) <= 1e-10, 0.0, padded)
    crossed = np.diff(np.signbit(quiet), prepend=np.signbit(quiet[:1]))
    windows = np.lib.stride_tricks.sliding_window_view(crossed, FRAME)[::HOP].copy()
    windows[:, 0] = False  # no crossing within the window leads to its first sample
    for values in (level, windows.mean(axis=1)):
        yield from (values.mean(), values.std(), values.max(), values.min())


def _spectral(spectrum: np.ndarray, rate: int) -> Iterator[float]:
    """Centroid, bandwidth and roll-off over Nyquist; flatness; contrast in decibels: of ``[1025, frames]``."""
    nyquist = rate / 2
    hertz = np.arange(len(spectrum)) * rate / FRAME
    total = spectrum.sum(axis=0)
    shares = spectrum / np.where(total > np.finfo(np.float32).tiny, total, 1.0)
    centroid = hertz @ shares
    bandwidth = np.sqrt((shares * (hertz[:, None] - centroid) ** 2).sum(axis=0))
    yield from (centroid.mean() / nyquist, centroid.std() / nyquist, _skew(centroid))
    yield from (bandwidth.mean() / nyquist, bandwidth.std() / nyquist)
    below = np.cumsum(spectrum[:, :: ROLLOFF_HOP // HOP], axis=0)
    rolloff = hertz[(below >= ROLLOFF_SHARE * below[-1]).argmax(axis=0)]
    yield from (rolloff.mean() / nyquist, rolloff.std() / nyquist)
    power = np.maximum(spectrum**2, 1e-10)
    flatness = np.exp(np.log(power).mean(axis=0)) / power.mean(axis=0)
    yield from (flatness.mean(), flatness.std())
    contrast = _contrast(spectrum, hertz)
    yield from (contrast.mean(), contrast.std())


def _contrast(spectrum: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Peak minus valley of seven bands in decibels, ``[7, frames]`` (Jiang et al., 2002); neighbours share a bin."""
    peaks, valleys = [], []
    for band, high in enumerate(CONTRAST_HZ):
        low = 0.0 if band == 0 else CONTRAST_HZ[band - 1]
        inside = np.flatnonzero((hertz >= low) & (hertz <= high))
        first = inside[0] - (band > 0)
        last = len(hertz) if band == len(CONTRAST_HZ) - 1 else inside[-1] + 1
        count = max(1, round(CONTRAST_SHARE * (last - first)))
        ordered = np.sort(spectrum[first : last - (band < len(CONTRAST_HZ) - 1)], axis=0)
        peaks.append(ordered[-count:].mean(axis=0))
        valleys.append(ordered[:count].mean(axis=0))
    return decibels(np.array(peaks)) - decibels(np.array(valleys))


def _envelope(waveform: np.ndarray, rate: int) -> Iterator[float]:
    """The Hilbert envelope's mean, deviation and their ratio; its peaks above the mean, a tenth of a second apart."""
    from scipy.signal import find_peaks, hilbert

    envelope = np.abs(hilbert(waveform.astype(np.float64)))
    mean, deviation = envelope.mean(), envelope.std()
    places, found = find_peaks(envelope, height=mean, distance=max(1, rate // 10))
    heights = found["peak_heights"] if len(places) else np.zeros(1)
    yield from (mean, deviation, mean / (deviation + 1e-8), len(places), heights.mean(), heights.std())


def _change(spectrum: np.ndarray, long: np.ndarray, rate: int) -> Iterator[float]:
    """Share of the energy below 1 kHz, and how far a mel spectrogram moves from frame to frame (Euclidean, in dB).

    The share is of the 512-point `spectrum`. The mel spectrogram is not the map `mel`, which ends at 4.5 kHz: the
    source system computes another, of 2,048 points up to Nyquist, of which `long` holds the magnitudes.
    """
    power = spectrum.astype(np.float64) ** 2
    yield power[: int(LOW_HZ * N_FFT / rate)].sum() / (power.sum() + 1e-8)
    mel = mel_filters(rate, FRAME, MELS, rate / 2) @ long**2
    levels = decibels(mel, float(mel.max())).astype(np.float64)
    flux = np.sqrt((np.diff(levels, axis=1) ** 2).sum(axis=0))
    yield from (flux.mean(), flux.std(), flux.max())


def _shape(waveform: np.ndarray) -> Iterator[float]:
    """Skew and excess kurtosis of the samples; 90th and 10th percentile of their sizes."""
    samples = waveform.astype(np.float64)
    away = samples - samples.mean()
    yield from (_skew(samples), (away**4).mean() / (away**2).mean() ** 2 - 3.0)
    yield from np.percentile(np.abs(samples), (90, 10))


def _repetition(waveform: np.ndarray, rate: int) -> Iterator[float]:
    """Autocorrelation after 10 and 20 ms over that of lag 0; where within 50 ms it is least, in seconds."""
    from scipy.signal import correlate

    samples = waveform.astype(np.float64)
    correlation = correlate(samples, samples, method="fft")[len(samples) - 1 :][: rate // 20]
    correlation = correlation / correlation[0]
    yield from (correlation[rate // 100], correlation[rate // 50], correlation.argmin() / rate)


def _skew(values: np.ndarray) -> float:
    away = values - values.mean()
    return (away**3).mean() / (away**2).mean() ** 1.5
