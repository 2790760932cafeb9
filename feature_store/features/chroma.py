"""Energy of the twelve pitch classes: from a spectrum, and from a constant-Q transform, smoothed (CENS)."""

from __future__ import annotations

import functools

import numpy as np

from feature_store.features.cqt import Waves, inner_products, waves, whole_hops
from feature_store.features.spectra import magnitudes

CLASSES, A4, C1 = 12, 440.0, 440.0 * 2 ** (-3.75)  # pitch classes from C; Hz
PITCHES_HZ, PEAK_SHARE, TUNING_STEP = (150.0, 4000.0), 0.1, 0.01  # of tuning: range, least share of a frame's largest
OCTAVES, BINS_PER_OCTAVE = 7, 36  # of the constant-Q transform
STEPS = (0.4, 0.2, 0.1, 0.05)  # of a class' share: each that is passed counts a quarter
SMOOTHED_FRAMES = 43
LOBES = 8  # of a wave's spectrum, on either side: the shares of the classes are only counted in quarters


def chroma_of_spectrum(spectrum: np.ndarray, sample_rate: int) -> np.ndarray:
    """Pitch classes ``[12, frames]`` of magnitudes ``[bins, frames]``, the largest of each frame 1 (Ellis, 2007)."""
    tuned = tuning(spectrum, sample_rate, CLASSES)
    raw = _class_weights(sample_rate, 2 * (len(spectrum) - 1), round(tuned, 6)) @ spectrum
    return over(raw, np.abs(raw).max(axis=0))


def cens(waveform: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """Chroma energy normalised statistics ``[12, frames]`` (Müller and Ewert, 2011), of unit length in every frame."""
    from scipy.ndimage import convolve1d

    tuned = tuning(magnitudes(waveform, 2048, 512), sample_rate, BINS_PER_OCTAVE)
    energies = np.abs(constant_q(waveform, sample_rate, hop, tuned))
    folded = energies.reshape(OCTAVES, BINS_PER_OCTAVE, -1).sum(axis=0)
    third = BINS_PER_OCTAVE // CLASSES  # bins of a class: its own, and one on either side
    classes = np.roll(folded, third // 2, axis=0).reshape(CLASSES, third, -1).sum(axis=1)
    shares = over(classes, classes.sum(axis=0))
    quantised = sum(0.25 * (shares > step) for step in STEPS)
    window = np.hanning(SMOOTHED_FRAMES)
    smooth = convolve1d(quantised, window / window.sum(), axis=1, mode="constant")
    return over(smooth, np.linalg.norm(smooth, axis=0))


def over(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Columns divided by their size; a column of (nearly) nothing stays."""
    return values / np.where(size > np.finfo(np.float32).tiny, size, 1.0)


def tuning(spectrum: np.ndarray, sample_rate: int, bins_per_octave: int) -> float:
    """How far the sound's strongest pitches lie off A 440, most often, as a share of a bin in [-0.5, 0.5).

    Pitches are local maxima of magnitudes ``[bins, frames]``, placed between bins by a parabola; 0 if there are none.
    """
    before, here, after = spectrum[:-2], spectrum[1:-1], spectrum[2:]
    slope, bend = (after - before) / 2, after + before - 2 * here
    shift = np.where(np.abs(slope) < np.abs(bend), -slope / np.where(bend == 0, 1, bend), 0.0)
    hertz = (np.arange(1, len(spectrum) - 1)) * sample_rate / (2 * (len(spectrum) - 1))
    inside = (hertz >= PITCHES_HZ[0]) & (hertz < PITCHES_HZ[1])
    loud = np.where(spectrum > PEAK_SHARE * spectrum.max(axis=0), spectrum, 0)
    peaks = inside[:, None] & (loud[1:-1] > loud[:-2]) & (loud[1:-1] >= loud[2:])
    places, _ = np.nonzero(peaks)
    if not len(places):
        return 0.0
    strength = (here + 0.5 * slope * shift)[peaks]
    pitches = hertz[places] + shift[peaks] * hertz[0]
    pitches = pitches[strength >= np.median(strength)]
    off = np.mod(bins_per_octave * np.log2(pitches / A4), 1.0)
    off[off >= 0.5] -= 1.0
    counts, edges = np.histogram(off, np.linspace(-0.5, 0.5, round(1 / TUNING_STEP) + 1))
    return float(edges[counts.argmax()])


@functools.lru_cache(maxsize=256)
def _class_weights(sample_rate: int, n_fft: int, tuned: float) -> np.ndarray:
    """What each bin gives to each class, ``[12, n_fft // 2 + 1]``: a bell around it, most of all near A 880 (octave 5).

    Each bell is as wide as the bins are apart, but no narrower than a semitone.
    """
    hertz = np.arange(1, n_fft) * sample_rate / n_fft
    place = CLASSES * np.log2(hertz / (A4 * 2 ** (tuned / CLASSES) / 16))  # in semitones from A0
    place = np.concatenate([[place[0] - 1.5 * CLASSES], place])
    width = np.concatenate([np.maximum(np.diff(place), 1.0), [1.0]])
    away = np.mod(place - np.arange(CLASSES)[:, None] + CLASSES / 2, CLASSES) - CLASSES / 2
    bells = np.exp(-0.5 * (2 * away / width) ** 2)
    bells /= np.linalg.norm(bells, axis=0)
    bells *= np.exp(-0.5 * ((place / CLASSES - 5.0) / 2.0) ** 2)
    return np.roll(bells, -3, axis=0)[:, : n_fft // 2 + 1]  # from A to C


def constant_q(waveform: np.ndarray, sample_rate: int, hop: int, tuned: float) -> np.ndarray:
    """Constant-Q transform ``[252, frames]`` (complex) from C1 up, one column every `hop` samples, silence around it.

    Each bin is the inner product of the sound with a Hann-windowed wave of the same number of periods, times the root
    of its length.
    """
    size, bands, weights = _waves(len(waveform), sample_rate, hop, round(tuned, 6))
    sound = np.zeros(size, np.float32)
    sound[: len(waveform)] = waveform
    return weights[:, None] * inner_products(sound, hop, bands)[:, : 1 + len(waveform) // hop]


@functools.lru_cache(maxsize=32)  # of the hundred tunings that there are; 2 MB each for a second of sound
def _waves(samples: int, sample_rate: int, hop: int, tuned: float) -> tuple[int, Waves, np.ndarray]:
    """Samples that hold the sound and the silence around it, the waves, and each one's weight."""
    hertz = C1 * 2 ** ((np.arange(OCTAVES * BINS_PER_OCTAVE) + tuned) / BINS_PER_OCTAVE)
    ratio = 2 ** (2 / BINS_PER_OCTAVE)
    lengths = (ratio + 1) / (ratio - 1) * sample_rate / hertz
    size = whole_hops(samples + lengths.max(), hop)
    first = np.floor(-lengths / 2).astype(int)
    count = np.floor(lengths / 2).astype(int) - first
    return size, waves(hertz / sample_rate, first, count, size, hop, LOBES), np.sqrt(lengths)
