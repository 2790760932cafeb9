"""Cutting a cycle into pieces of one length, and filling up what is shorter on a random side (RespireNet)."""

from __future__ import annotations

import math

import numpy as np


def fill_either_side(piece: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A piece of at most `samples`, filled up with its own sound before it or after it: ``[samples]``.

    Either way the result is periodic: sample n + len(piece) is sample n.
    """
    tiled = np.tile(piece, math.ceil(samples / len(piece)))
    return tiled[-samples:] if rng.integers(2) else tiled[:samples]


def slice_pieces(cycle: np.ndarray, samples: int) -> list[np.ndarray]:
    """A cycle as pieces of its own sound: itself if it is not longer than `samples`, else one every half length.

    Consecutive pieces share half of their sound. The last one is what is left from half a length after the last whole
    one, and shorter than `samples`, but not than half of them.
    """
    if len(cycle) <= samples:
        return [cycle]
    step = samples // 2
    starts = range(0, len(cycle) - samples + 1, step)
    return [*(cycle[start : start + samples] for start in starts), cycle[len(starts) * step :]]


def cut_pieces(cycle: np.ndarray, samples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The pieces of `slice_pieces`, all of `samples`: the last one is filled up by `fill_either_side`."""
    *whole, last = slice_pieces(cycle, samples)
    return [*whole, fill_either_side(last, samples, rng)]
