"""The maps of the breathing-phase classifier, each ``[rows, frames]`` before it is fitted to 128 rows.

Specified in docs/specification.md, 5.2.
"""

from __future__ import annotations

import numpy as np

from feature_store.features.chroma import cens, chroma_of_spectrum, over
from feature_store.features.spectra import decibels, delta, frames_of, hann, magnitudes, mel_filters

N_FFT, HOP, ROWS = 512, 256, 128
MEL_HIGH_HZ = 4500.0
LPC_ORDER, LPC_WINDOW, LPC_SHIFT, PREEMPHASIS = 12, 0.025, 0.010, 0.97  # seconds
TEMPO_FRAMES = 384
ONSET_FFT = 2048


def mel_decibels(spectrum: np.ndarray, rate: int) -> np.ndarray:
    """128 mels up to 4.5 kHz of magnitudes ``[257, frames]``, in decibels below the loudest."""
    power = mel_filters(rate, N_FFT, ROWS, min(MEL_HIGH_HZ, rate / 2)) @ spectrum**2
    return decibels(power, float(power.max()))


def chroma(waveform: np.ndarray, spectrum: np.ndarray, rate: int) -> np.ndarray:
    """Pitch classes of the spectrum over those of CENS, ``[24, frames]``, each row standardised."""
    return by_row(np.concatenate([chroma_of_spectrum(spectrum, rate), cens(waveform, rate, HOP)]))


def gammatone(spectrum: np.ndarray, rate: int) -> np.ndarray:
    """What the source system calls so: 64 mel filters times magnitudes, log(1 + x)."""
    return whole(np.log1p(mel_filters(rate, N_FFT, 64, rate / 2) @ spectrum))


def mfcc(spectrum: np.ndarray, rate: int) -> np.ndarray:
    """40 cepstral coefficients of 128 mels up to Nyquist with both derivatives, ``[120, frames]``, by row."""
    from scipy.fft import dct

    power = mel_filters(rate, N_FFT, ROWS, rate / 2) @ spectrum**2
    coefficients = dct(decibels(power), axis=0, norm="ortho")[:40]
    return by_row(np.concatenate([coefficients, delta(coefficients, 1), delta(coefficients, 2)]))


def modulation(mel: np.ndarray) -> np.ndarray:
    """Cosine transform over frequency, of which 40 rows stay, then over time, ``[40, frames]``."""
    from scipy.fft import dct

    return whole(dct(dct(mel, axis=0, norm="ortho")[:40], axis=1, norm="ortho"))


def tempogram(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Autocorrelation of the onset strength around every frame, ``[384, frames]`` lags (Grosche et al., 2010).

    All lags are standardised together, before the map is cut to 128 of them, as the source system does.
    """
    from scipy.fft import irfft, rfft

    mel = decibels(mel_filters(rate, ONSET_FFT, ROWS, rate / 2) @ magnitudes(waveform, ONSET_FFT, HOP) ** 2)
    rises = np.maximum(np.diff(mel, axis=1), 0).mean(axis=0)
    late = 1 + ONSET_FFT // (2 * HOP)  # the difference, and the centring of the frames
    strength = np.pad(rises, (late, 0))[: mel.shape[1]]
    around = np.pad(strength, TEMPO_FRAMES // 2, mode="linear_ramp")
    frames = np.lib.stride_tricks.sliding_window_view(around, TEMPO_FRAMES)[: len(strength)] * hann(TEMPO_FRAMES)
    power = np.abs(rfft(frames, 2 * TEMPO_FRAMES, axis=1)) ** 2
    correlation = irfft(power, axis=1)[:, :TEMPO_FRAMES].T
    return whole(over(correlation, np.abs(correlation).max(axis=0)))


def log_power(spectrum: np.ndarray) -> np.ndarray:
    """The lower 128 bins, up to 4 kHz at 16 kHz, in decibels below the loudest of all."""
    power = spectrum**2
    return whole(decibels(power, float(power.max()))[:ROWS])


def lpc(waveform: np.ndarray, frames: int, rate: int, *, aligned: bool) -> np.ndarray:
    """Linear prediction of order 12, ``[12, frames]``, of Hamming windows of 25 ms after a pre-emphasis of 0.97.

    Aligned, a window lies around the place of every frame of the other maps. Else it is the source system's defect:
    one window every 10 ms, standardised together, of which only the first ones are kept, so that they end after 0.63 s.
    Where they are too few, above 25.6 kHz, the map's least value fills the rest.
    """
    window = int(LPC_WINDOW * rate)
    emphasised = np.append(waveform[:1], waveform[1:] - PREEMPHASIS * waveform[:-1])
    if aligned:
        pieces = frames_of(emphasised, window, HOP)[:frames]
    else:  # a window that would end with the clip is left out there
        pieces = np.lib.stride_tricks.sliding_window_view(emphasised[:-1], window)[:: int(LPC_SHIFT * rate)]
    values = whole(burg(pieces.astype(np.float64) * np.hamming(window), LPC_ORDER)[:, 1:].T)[:, :frames]
    return np.pad(values, ((0, 0), (0, frames - values.shape[1])), constant_values=values.min())


def burg(frames: np.ndarray, order: int) -> np.ndarray:
    """Prediction error filters ``[frames, 1 + order]``, the first coefficient 1, by Burg's method (1967).

    Args:
        frames: ``[frames, samples]`` float64; one of silence gives zeros after the 1.
    """
    forward, backward = frames[:, 1:], frames[:, :-1]
    filters = np.zeros((len(frames), order + 1))
    filters[:, 0] = 1.0
    for step in range(1, order + 1):
        energy = (forward**2 + backward**2).sum(axis=1)
        reflection = -2 * (forward * backward).sum(axis=1) / np.where(energy > 0, energy, 1.0)
        reversed_filters = filters[:, step::-1].copy()
        filters[:, : step + 1] += reflection[:, None] * reversed_filters
        forward, backward = (
            (forward + reflection[:, None] * backward)[:, 1:],
            (backward + reflection[:, None] * forward)[:, :-1],
        )
    return filters


def whole(values: np.ndarray) -> np.ndarray:
    """Standardised by the mean and deviation of the whole map."""
    return (values - values.mean()) / (values.std() + 1e-8)


def by_row(values: np.ndarray) -> np.ndarray:
    """Every row standardised by its own mean and deviation."""
    return (values - values.mean(axis=1, keepdims=True)) / (values.std(axis=1, keepdims=True) + 1e-8)


def fitted(values: np.ndarray) -> np.ndarray:
    """At 128 rows: those beyond are cut, missing ones hold the map's least value."""
    missing = max(0, ROWS - len(values))
    return np.pad(values[:ROWS], ((0, missing), (0, 0)), constant_values=values.min())
