"""The constant-Q transform (Brown, 1991): bins spaced as the keys of a piano, each with a window of its own length."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

NEGLIGIBLE = 1e-5  # of a filter's gain at its centre: what lies below, 100 dB down, is left out


@dataclass(frozen=True)
class ConstantQ:
    """Bin k at f_k = low_hz * 2^(k / bins_per_octave), through a periodic Hann window of ceil(Q rate / f_k) samples.

    Q = 1 / (2^(1 / bins_per_octave) - 1), so that a window holds Q periods of its bin. Frames are centred at multiples
    of the hop, the signal being mirrored at its ends; a window's values sum to 1, so a tone of amplitude 1 at a bin
    gives 0.5 there. This is what nnAudio's `CQT2010v2` and librosa's `cqt` compute by octaves, up to a factor for each
    bin.

    The whole signal is transformed at once: each filter is a multiplication in the spectrum, and taking one sample a
    hop is folding the spectrum, so only the folded product has to be transformed back.

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

    def kernel(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A bin's complex window ``[length]``, and each sample's distance from the centre of the frame."""
        length = int(self.lengths[index])
        place = np.arange(length) - length // 2
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        return place, window / window.sum() * np.exp(-2j * np.pi * self.frequencies[index] * place / self.rate)

    def magnitude(self, signal: Tensor) -> Tensor:
        """``[samples]`` float32 to ``[frames, bins]``."""
        import torch

        folded_length, filters = _filters(self)
        padded = torch.nn.functional.pad(signal[None, None], (self.margin, self.margin), mode="reflect")[0, 0]
        spectrum = torch.fft.rfft(padded, n=folded_length * self.hop)
        spectrum = torch.nn.functional.pad(spectrum, (0, folded_length))  # a band may end past Nyquist, with gains of 0
        folded = torch.stack(
            [(spectrum[start : start + len(gain)] * gain).view(-1, folded_length).sum(dim=0) for start, gain in filters]
        )
        return torch.fft.ifft(folded).abs()[:, : self.frames].T / self.hop


@functools.lru_cache(maxsize=4)
def _filters(transform: ConstantQ) -> tuple[int, list[tuple[int, Tensor]]]:
    """Frames that a padded signal holds, and of each bin where its filter's band begins and its gains there.

    A band covers a whole number of such frames, so that it can be folded. The gains also move the first frame's centre
    to sample 0.
    """
    import torch

    length = math.ceil((transform.samples + 2 * transform.margin) / transform.hop)
    size = length * transform.hop
    filters = []
    for index in range(transform.bins):
        place, kernel = transform.kernel(index)
        response = np.zeros(size, complex)
        response[-(place + transform.margin) % size] = kernel
        gains = np.fft.fft(response)[: size // 2 + 1]
        heard = np.flatnonzero(np.abs(gains) > NEGLIGIBLE)
        first, last = heard[0] // length, heard[-1] // length + 1
        band = np.zeros((last - first) * length, np.complex64)
        inside = gains[first * length : last * length]
        band[: len(inside)] = inside
        filters.append((int(first * length), torch.from_numpy(band)))
    return length, filters
