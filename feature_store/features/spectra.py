"""Short-time spectra in numpy as librosa defines them, for features that are made of many small maps."""

from __future__ import annotations

import functools

import numpy as np

QUIETEST, RANGE_DB = 1e-10, 80.0  # power that counts as silence; decibels kept below the loudest value


def frames_of(waveform: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Frames ``[frames, length]`` centred on every `hop`-th sample, with silence beyond both ends."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(waveform, length // 2), length)[::hop]


def magnitudes(waveform: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Magnitudes ``[n_fft // 2 + 1, frames]`` of the centred STFT with a periodic Hann window, float32.

    Transformed in float64 and rounded then, as librosa does: in float32 quiet bins would be off by 0.001 dB.
    """
    from scipy.fft import rfft

    return np.abs(rfft(frames_of(waveform, n_fft, hop) * hann(n_fft), axis=1).astype(np.complex64)).T


@functools.cache
def hann(length: int) -> np.ndarray:
    """Periodic Hann window, float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@functools.cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int, high_hz: float, low_hz: float = 0.0) -> np.ndarray:
    """Slaney's mel filters of equal area, ``[n_mels, n_fft // 2 + 1]`` float32.

    Linear up to 1 kHz (200/3 Hz a mel), logarithmic above (27 mels from 1 to 6.4 kHz). A filter so narrow that no bin
    falls into it is empty.
    """
    knee, step, log_step = 15.0, 200.0 / 3.0, np.log(6.4) / 27.0

    def mels(hz: float) -> float:
        return hz / step if hz < 1000.0 else knee + np.log(hz / 1000.0) / log_step

    def hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < knee, step * mel, 1000.0 * np.exp(log_step * (mel - knee)))

    edges = hertz(np.linspace(mels(low_hz), mels(high_hz), n_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.minimum(rising, falling).clip(0)
    return (filters * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def decibels(power: np.ndarray, loudest: float = 1.0) -> np.ndarray:
    """Power in decibels against `loudest`, no more than 80 below the greatest value; float32."""
    values = 10.0 * (np.log10(np.maximum(power, QUIETEST)) - np.log10(max(loudest, QUIETEST)))
    return np.maximum(values, values.max() - RANGE_DB).astype(np.float32)


def delta(values: np.ndarray, order: int) -> np.ndarray:
    """First or second derivative over time of ``[rows, frames]``, by polynomials fitted to nine frames."""
    from scipy.signal import savgol_filter

    return savgol_filter(values, 9, polyorder=order, deriv=order, axis=1, mode="interp")
