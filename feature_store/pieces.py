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


def cut_pieces(cycle: np.ndarray, samples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A cycle as pieces of `samples`: one if it is not longer, else one every half length, and what is left at the end.

    Consecutive pieces share half of their sound. The last one begins half a length after the last whole one, and is
    filled up by `fill_either_side`, as a short cycle is.
    """
    step = samples // 2
    starts = range(0, max(0, len(cycle) - samples + 1), step) if len(cycle) > samples else range(0)
    pieces = [cycle[start : start + samples] for start in starts]
    return [*pieces, fill_either_side(cycle[len(starts) * step :], samples, rng)]
