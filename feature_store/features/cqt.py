"""The constant-Q transform (Brown, 1991): bins spaced as the keys of a piano, each with a window of its own length.

The whole signal is transformed at once: each bin's wave is a multiplication in the spectrum, and taking one sample a
hop is folding the spectrum, so only the folded product has to be transformed back.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

LOBES = 32  # of a wave's spectrum, on either side of its peak: what lies beyond is 100 dB down

Waves = list[tuple[int, np.ndarray]]
"""Of each wave the bin of the signal's spectrum at which its band begins, and what each bin of it is multiplied by."""


@dataclass(frozen=True)
class ConstantQ:
    """Bin k at f_k = low_hz * 2^(k / bins_per_octave), through a periodic Hann window of ceil(Q rate / f_k) samples.

    Q = 1 / (2^(1 / bins_per_octave) - 1), so that a window holds Q periods of its bin. Frames are centred at multiples
    of the hop, the signal being mirrored at its ends; a window's values sum to 1, so a tone of amplitude 1 at a bin
    gives 0.5 there. nnAudio's `CQT2010v2`, which CycleGuardian calls, works by octaves through short filters, and its
    bins differ by more than a factor (docs/cycleguardian.md): `cqt_octaves` computes those.

    Raises:
        ValueError: the highest bin lies above Nyquist, or the signal is too short for the lowest bin's window.
    """

    rate: int
    samples: int
    hop: int
    bins: int
    low_hz: float
    bins_per_octave: int

    def __post_init__(self) -> None:
        nyquist, highest = self.rate / 2, float(self.frequencies[-1])
        if highest >= nyquist:
            raise ValueError(
                f"the highest of {self.bins} bins lies at {highest:.0f} Hz, above Nyquist, {nyquist:.0f} Hz"
            )
        if self.samples <= self.margin:
            raise ValueError(
                f"{self.samples} samples are too few for a bin at {self.low_hz:g} Hz, whose window has "
                f"{self.lengths[0]} samples"
            )

    @property
    def frequencies(self) -> np.ndarray:
        """Centres ``[bins]``, Hz."""
        return self.low_hz * 2 ** (np.arange(self.bins) / self.bins_per_octave)

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each bin's window, ``[bins]``."""
        q = 1 / (2 ** (1 / self.bins_per_octave) - 1)
        return np.ceil(q * self.rate / self.frequencies).astype(int)

    @property
    def margin(self) -> int:
        """Samples that the longest window reaches past the ends of the signal."""
        return int(self.lengths[0]) // 2 + 1

    @property
    def frames(self) -> int:
        return 1 + self.samples // self.hop

    def magnitude(self, signal: np.ndarray) -> np.ndarray:
        """``[samples]`` float32 to ``[frames, bins]``."""
        mirrored, (size, bands) = np.pad(signal, self.margin, mode="reflect"), _waves(self)
        around = np.zeros(size, np.float32)  # a circle: what lies before the signal is its end
        around[: self.samples + self.margin] = mirrored[self.margin :]
        around[-self.margin :] = mirrored[: self.margin]
        return np.abs(inner_products(around, self.hop, bands)[:, : self.frames]).T


@functools.lru_cache(maxsize=4)
def _waves(transform: ConstantQ) -> tuple[int, Waves]:
    """Samples of the circle that holds the mirrored signal, and the waves."""
    lengths, size = transform.lengths, whole_hops(transform.samples + 2 * transform.margin, transform.hop)
    return size, waves(transform.frequencies / transform.rate, -(lengths // 2), lengths, size, transform.hop)


def whole_hops(samples: float, hop: int) -> int:
    """So many samples or a few more: whole hops, of a number that is quickly transformed."""
    from scipy.fft import next_fast_len

    return hop * next_fast_len(math.ceil(samples / hop))


def waves(cycles: np.ndarray, first: np.ndarray, count: np.ndarray, size: int, hop: int, lobes: int = LOBES) -> Waves:
    """Waves in periodic Hann windows whose values sum to 1, as bands of a spectrum.

    A band is cut at 0 and at Nyquist and covers whole multiples of ``size // hop`` bins, so that it can be folded.

    Args:
        cycles: ``[waves]``, a sample.
        first: ``[waves]`` first sample of each window, counted from the centre of its frame.
        count: ``[waves]`` samples of each window.
        size: samples of the signals that are to be transformed, a multiple of `hop`.
        hop: samples between frames.
        lobes: of a wave's spectrum, on either side of its peak, that are taken; of 8 the next is 64 dB down.
    """
    columns, bands = size // hop, []
    for turns, start, length in zip(cycles, first, count, strict=True):
        low = max(0, math.ceil((turns - lobes / length) * size))
        high = min(size // 2, math.floor((turns + lobes / length) * size))
        begin = low // columns * columns
        gains = np.zeros((high // columns + 1) * columns - begin, np.complex64)
        gains[low - begin : high - begin + 1] = _spectrum(turns - np.arange(low, high + 1) / size, start, length)
        bands.append((begin, gains))
    return bands


def inner_products(signal: np.ndarray, hop: int, bands: Waves) -> np.ndarray:
    """Inner products of a signal, taken to be periodic, with waves around every hop-th sample.

    ``[size]`` float32 to ``[waves, size // hop]`` complex64.
    """
    from scipy.fft import ifft, rfft

    columns = len(signal) // hop
    spectrum = np.concatenate([rfft(signal), np.zeros(columns, np.complex64)])  # a band may end past Nyquist, at 0
    folded = [(spectrum[begin : begin + len(gains)] * gains).reshape(-1, columns).sum(axis=0) for begin, gains in bands]
    return ifft(np.stack(folded), axis=1) / hop


def _spectrum(away: np.ndarray, first: int, count: int) -> np.ndarray:
    """Conjugate spectrum of a wave in its window, at places that are so many cycles a sample away from its peak.

    A periodic Hann window is three waves of its own, one cycle a window apart. The sum of each is a geometric series,
    and they share its numerator.
    """
    turn, numerator = np.exp(1j * np.pi / count), np.sin(np.pi * count * away)

    def share(aside: int) -> np.ndarray:
        below = np.sin(np.pi * (away + aside / count))
        peak = np.abs(below) < 1e-12
        return np.where(peak, -count if aside else count, numerator / np.where(peak, 1.0, below))

    total = 0.5 * share(0) - 0.25 / turn * share(1) - 0.25 * turn * share(-1)
    return np.conj(np.exp(1j * np.pi * (2 * first + count - 1) * away) * total) / (0.5 * count)
