"""Energy of the twelve pitch classes: from a spectrum, and from a constant-Q transform, smoothed (CENS)."""

from __future__ import annotations

import functools
import math

import numpy as np

from feature_store.features.spectra import frames_of, magnitudes

CLASSES, A4, C1 = 12, 440.0, 440.0 * 2 ** (-3.75)  # pitch classes from C; Hz
PITCHES_HZ, PEAK_SHARE, TUNING_STEP = (150.0, 4000.0), 0.1, 0.01  # of tuning: range, least share of a frame's largest
OCTAVES, BINS_PER_OCTAVE = 7, 36  # of the constant-Q transform
STEPS = (0.4, 0.2, 0.1, 0.05)  # of a class' share: each that is passed counts a quarter
SMOOTHED_FRAMES = 43
NEGLECTED = 0.01  # of the sum of a wave's spectrum


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
    All in float32, as in librosa: of a hundred places two are often as frequent, and rounding decides.
    """
    before, here, after = spectrum[:-2], spectrum[1:-1], spectrum[2:]
    slope, bend = (after - before) / 2, after + before - 2 * here
    shift = np.where(np.abs(slope) < np.abs(bend), -slope / np.where(bend == 0, 1, bend), 0.0)
    bins = np.arange(1, len(spectrum) - 1)
    width = sample_rate / (2 * (len(spectrum) - 1))  # Hz
    hertz = bins * width
    inside = (hertz >= PITCHES_HZ[0]) & (hertz < PITCHES_HZ[1])
    loud = np.where(spectrum > PEAK_SHARE * spectrum.max(axis=0), spectrum, 0)
    peaks = inside[:, None] & (loud[1:-1] > loud[:-2]) & (loud[1:-1] >= loud[2:])
    places, _ = np.nonzero(peaks)
    if not len(places):
        return 0.0
    strength = (here + 0.5 * slope * shift)[peaks]
    pitches = ((bins[places] + shift[peaks].astype(np.float32)) * width).astype(np.float32)
    pitches = pitches[strength >= np.median(strength)]
    off = np.mod(bins_per_octave * np.log2(pitches / (A4 / 16)), 1.0)
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

    It works by octaves, as librosa's (Schörkhuber and Klapuri, 2010): the waves of the highest one serve all, since the
    sound is halved in rate from octave to octave. What lies beyond the clip's ends is cut off at each halving, so the
    low octaves of a clip that begins or ends abruptly differ from a transform of the whole by up to 0.06 of the largest
    value. Each wave is a Hann window of the same number of periods, and its bin is weighted by the root of its length.

    Args:
        waveform: ``[samples]``.
        sample_rate: Hz.
        hop: samples, a multiple of 64.
        tuned: as `tuning`, of BINS_PER_OCTAVE.
    """
    basis, lengths = _octave(sample_rate, round(tuned, 6))
    sound, octaves = waveform.astype(np.float64), []
    for octave in range(OCTAVES):
        pieces = frames_of(sound, 2 * (basis.shape[1] - 1), hop >> octave)[: 1 + len(waveform) // hop]
        octaves.append(np.sqrt(lengths * 2**octave)[:, None] * (basis @ np.fft.rfft(pieces, axis=1).T))
        sound = _halved(sound)
    frames = min(values.shape[1] for values in octaves)
    return np.concatenate([values[:, :frames] for values in reversed(octaves)])


@functools.lru_cache(maxsize=100)  # as many tunings as there are; 0.3 MB each
def _octave(sample_rate: int, tuned: float) -> tuple[np.ndarray, np.ndarray]:
    """Conjugate spectra of the highest octave's waves ``[36, n_fft // 2 + 1]``, and the waves' samples ``[36]``.

    The smallest values of each spectrum, a hundredth of its sum, are taken for zero.
    """
    hertz = C1 * 2 ** (OCTAVES - 1 + (np.arange(BINS_PER_OCTAVE) + tuned) / BINS_PER_OCTAVE)
    ratio = 2 ** (2 / BINS_PER_OCTAVE)
    lengths = (ratio + 1) / (ratio - 1) * sample_rate / hertz
    size = 1 << math.ceil(math.log2(lengths.max()))
    waves = np.zeros((BINS_PER_OCTAVE, size), np.complex128)
    for wave, turns, length in zip(waves, hertz / sample_rate, lengths, strict=True):
        place = np.arange(math.floor(-length / 2), math.floor(length / 2))
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(place)) / len(place))
        wave[size // 2 + place] = window / window.sum() * np.exp(2j * np.pi * turns * place)
    spectra = np.fft.fft(waves, axis=1)[:, : size // 2 + 1] / size
    sizes = np.abs(spectra)
    ordered = np.sort(sizes, axis=1)
    share = np.cumsum(ordered / ordered.sum(axis=1, keepdims=True), axis=1)
    least = np.take_along_axis(ordered, (share >= NEGLECTED).argmax(axis=1)[:, None], axis=1)
    return np.where(sizes >= least, spectra, 0), lengths


def _halved(sound: np.ndarray) -> np.ndarray:
    """At half the rate, with silence around.

    The filter is that of libsoxr's high quality, which librosa calls: taps, edge and window were fitted to its impulse
    response, which they equal within 3e-7.
    """
    from scipy.signal import resample_poly

    return resample_poly(sound, 1, 2, window=_half_band())


@functools.cache
def _half_band() -> np.ndarray:
    from scipy.signal import firwin

    return firwin(389, 0.478436, window=("kaiser", 12.9738))
