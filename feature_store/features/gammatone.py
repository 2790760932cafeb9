"""Gammatone filters on the bins of an FFT: the cochlea's filter bank (Slaney, 1993; Ellis, 2009)."""

from __future__ import annotations

import numpy as np

EAR_Q, MIN_BANDWIDTH = 9.26449, 24.7  # Glasberg and Moore (1990): ERB = f / EAR_Q + MIN_BANDWIDTH
BANDWIDTH, ORDER = 1.019, 4  # of a gammatone filter over the ERB; number of its pole pairs


def erb_centres(low_hz: float, high_hz: float, bands: int) -> np.ndarray:
    """Centre frequencies ``[bands]`` rising evenly on the ERB scale, Hz.

    The lowest lies at `low_hz` and the highest one step below `high_hz`, as in Slaney's and Ellis' filter banks.
    """
    offset = EAR_Q * MIN_BANDWIDTH
    steps = np.arange(bands, 0, -1) / bands
    return (high_hz + offset) * ((low_hz + offset) / (high_hz + offset)) ** steps - offset


def gammatone_weights(rate: int, n_fft: int, low_hz: float, high_hz: float, bands: int) -> np.ndarray:
    """Gain of each filter at each FFT bin, 1 at its centre: ``[n_fft // 2 + 1, bands]`` float64.

    The magnitude response of Slaney's digital filter: four zeros on a line through the pole's real part, and a pole
    pair of order four.
    """
    centres = erb_centres(low_hz, high_hz, bands)
    angle = 2 * np.pi * centres / rate
    decay = np.exp(-2 * np.pi * BANDWIDTH * (centres / EAR_Q + MIN_BANDWIDTH) / rate)
    signs = np.array([[1], [1], [-1], [-1]]), np.array([[1], [-1], [1], [-1]])
    zeros = decay * (np.cos(angle) + signs[0] * np.sqrt(3 + signs[1] * 2**1.5) * np.sin(angle))
    poles = decay * np.exp(1j * angle)

    def gain(at: np.ndarray) -> np.ndarray:
        over = np.abs(at - zeros[:, None]).prod(axis=0)
        return over / (np.abs(at - poles) * np.abs(at - poles.conj())) ** ORDER

    circle = np.exp(2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)
    return gain(circle[:, None]) / gain(np.exp(1j * angle)[None])
