"""Blank-region clipping of RespireNet: the empty upper end of a spectrogram is cut off."""

from __future__ import annotations

import numpy as np

BLANK_BELOW = 10  # of 255
BLANK_SHARE = 0.8  # of a bin's frames


def clip_blank_bins(image: np.ndarray) -> np.ndarray:
    """Values ``[frames, bins]`` without the blank bins at the upper edge, ``[frames, bins or fewer]``.

    With the values of the cycle scaled to 0..255, a bin is blank when at least 80 % of its frames are below 10
    (Gairola et al., 2021). Blank bins below one that is not stay. If all are blank, nothing is cut.
    """
    low, high = image.min(), image.max()
    if high == low:
        return image
    dark = (image - low) * (255 / (high - low)) < BLANK_BELOW
    (filled,) = np.nonzero(dark.mean(axis=0) < BLANK_SHARE)
    return image[:, : filled[-1] + 1] if len(filled) else image
