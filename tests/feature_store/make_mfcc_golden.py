"""Writes mfcc_golden.json: coefficients of a made-up vowel as librosa computes them and the source standardises them.

It is no test, and needs librosa, which lungtune does not: pip install librosa==0.11.0, then run it in this folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FRAMES = (0, 1, 31, 64, 100, 125)
SIZES = (13, 17, 21, 30, 50)
GOLDEN = Path(__file__).with_name("mfcc_golden.json")


def vowel() -> np.ndarray:
    """Five harmonics of 180 Hz with vibrato and breath: a second at 44.1 kHz, float32."""
    time = np.arange(44100) / 44100
    phase = 2 * np.pi * 180 * time + 0.8 * np.sin(2 * np.pi * 5 * time)
    breath = 0.004 * np.random.default_rng(8).normal(size=len(time))
    return (sum(0.1 / n * np.sin(n * phase) for n in range(1, 6)) + breath).astype(np.float32)


if __name__ == "__main__":
    import librosa

    golden = {}
    for size in SIZES:
        values = librosa.feature.mfcc(y=vowel(), sr=44100, n_fft=705, hop_length=352, n_mfcc=size)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        golden[str(size)] = {"shape": values.shape, "frames": np.round(values[:, FRAMES].T.astype(float), 5).tolist()}
    GOLDEN.write_text(json.dumps(golden) + "\n")
