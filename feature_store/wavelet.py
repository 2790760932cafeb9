"""Wavelet denoising: Daubechies' wavelet of order 6 over three levels, soft thresholds (Donoho and Johnstone, 1994)."""

from __future__ import annotations

import functools
import math

import numpy as np

ORDER, LEVELS = 6, 3  # db6, as CycleGuardian's
MEDIAN_OF_NOISE = 0.6745  # median of |x| for a standard normal x


def denoised(waveform: np.ndarray, strength: float) -> np.ndarray:
    """A waveform ``[samples]`` float32 with its small wavelet details shrunk towards 0.

    The threshold is `strength` times the universal one, sigma sqrt(2 ln n), with sigma from the median of the finest
    details. With a strength of 0 the transform is undone at once, which is all that CycleGuardian's denoising does.
    """
    approximation, details = decompose(waveform)
    sigma = float(np.median(np.abs(details[0]))) / MEDIAN_OF_NOISE
    threshold = strength * sigma * math.sqrt(2 * math.log(max(2, len(waveform))))
    shrunk = [np.sign(level) * np.maximum(np.abs(level) - threshold, 0) for level in details]
    return reconstruct(approximation, shrunk)[: len(waveform)].astype(np.float32)


def decompose(waveform: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Approximation and details, the finest first, float64; the waveform is taken to be periodic.

    Its last sample is repeated until the length is a multiple of eight.
    """
    missing = -len(waveform) % 2**LEVELS
    rest, details = np.pad(waveform.astype(np.float64), (0, missing), mode="edge"), []
    for _ in range(LEVELS):
        pieces = rest[_places(len(rest))]
        rest, detail = pieces @ scaling_filter(), pieces @ _wavelet_filter()
        details.append(detail)
    return rest, details


def reconstruct(approximation: np.ndarray, details: list[np.ndarray]) -> np.ndarray:
    """The inverse of `decompose`: the transform is orthogonal, so it is its transpose."""
    for detail in reversed(details):
        parts = approximation[:, None] * scaling_filter() + detail[:, None] * _wavelet_filter()
        places = _places(2 * len(detail))
        approximation = np.bincount(places.ravel(), parts.ravel(), minlength=2 * len(detail))
    return approximation


@functools.cache
def scaling_filter() -> np.ndarray:
    """Daubechies' minimum-phase filter of twelve taps, from the roots of its polynomial (Daubechies, 1992, 6.1)."""
    polynomial = [math.comb(ORDER - 1 + k, k) for k in reversed(range(ORDER))]
    roots = []
    for y in np.roots(polynomial):
        pair = np.roots([1, 4 * y - 2, 1])
        roots.append(pair[np.abs(pair).argmin()])
    taps = np.real(np.poly([*[-1.0] * ORDER, *roots]))
    return taps * math.sqrt(2) / taps.sum()


def _wavelet_filter() -> np.ndarray:
    return scaling_filter()[::-1] * (-1.0) ** np.arange(2 * ORDER)


def _places(length: int) -> np.ndarray:
    """Samples under the filter at every second one, around the end: ``[length / 2, 12]``."""
    return (2 * np.arange(length // 2)[:, None] + np.arange(2 * ORDER)) % length
