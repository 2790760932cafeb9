"""Writes cqt_golden.json: the constant-Q map of a made-up sound as nnAudio computes it, in decibels.

It is no test, and needs nnAudio, which lungtune does not: pip install nnAudio==0.3.4, then run it in this folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RATE, SECONDS, FRAMES, BINS = 22000, 8, (0, 3, 200, 455, 680, 687), (0, 5, 11, 12, 30, 47, 59, 60, 71, 72, 80, 83)
GOLDEN = Path(__file__).with_name("cqt_golden.json")


def sound() -> np.ndarray:
    """A rising tone, a steady one and noise that begins late. Float32."""
    time = np.arange(RATE * SECONDS) / RATE
    noise = np.random.default_rng(8).normal(size=len(time)) * (time > 4.0)
    rising = np.sin(2 * np.pi * (60 * time + 200 * time**2))
    return (0.2 * rising + 0.1 * np.sin(2 * np.pi * 131.0 * time) + 0.02 * noise).astype(np.float32)


if __name__ == "__main__":
    import torch
    from nnAudio.features.cqt import CQT2010v2

    transform = CQT2010v2(sr=RATE, hop_length=256, fmin=32.7, n_bins=84, bins_per_octave=12, verbose=False)
    levels = 20 * transform(torch.from_numpy(sound())).clamp_min(1e-10).log10()[0].T.numpy()
    picked = [[round(float(levels[frame, row]), 5) for row in BINS] for frame in FRAMES]
    GOLDEN.write_text(json.dumps(picked).replace("], ", "],\n") + "\n")
