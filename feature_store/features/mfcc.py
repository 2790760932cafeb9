"""Cepstral coefficients of a sustained vowel, each frame standardised: what the voice classifier is fed.

Specified in docs/specification.md, 4.1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.spec import Spec
from feature_store.features.spectra import decibels, magnitudes, mel_filters

MELS = 128


class MfccSpec(Spec):
    """``(frames, n_mfcc)``: mel-frequency cepstral coefficients, standardised frame by frame, over its coefficients.

    Windows of 16 ms every 8 ms (705 and 352 samples at 44.1 kHz), centred, 128 of Slaney's mels up to Nyquist, decibels
    no more than 80 below the loudest, an orthonormal cosine transform: librosa's chain with its defaults. One second
    gives 126 frames. Frames whose coefficients are all alike become zeros.

    Clips shorter than `seconds` are filled up. The source system leaves them shorter, and cannot batch them then.
    """

    kind: Literal["mfcc"] = "mfcc"
    sample_rate: int = Field(default=44100, ge=4000, le=1_000_000, description="Hz")
    seconds: float = Field(default=1.0, gt=0, le=120)
    fade_seconds: float = Field(default=0.0, ge=0, le=60)
    n_mfcc: int = Field(default=13, ge=2, le=MELS, description="coefficients, from the first")
    window_ms: float = Field(default=16.0, gt=0, le=1000, description="cut down to whole samples, as is the step")
    shift_ms: float = Field(default=8.0, gt=0, le=1000)

    @model_validator(mode="after")
    def _sound(self) -> MfccSpec:
        if self.clip_blank:
            raise ValueError("cepstral coefficients have no blank bins: set clip_blank to false")
        if self.hop < 1 or self.shortest < 2:
            raise ValueError(f"window_ms and shift_ms leave {self.shortest} and {self.hop} samples")
        if self.samples < self.shortest:
            raise ValueError(f"{self.seconds:g} s are shorter than a window of {self.window_ms:g} ms")
        return self

    @property
    def hop(self) -> int:
        """Samples from one frame's centre to the next."""
        return int(self.shift_ms / 1000 * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        return _frames(self.samples, self.shortest, self.hop), self.n_mfcc

    @property
    def shortest(self) -> int:
        return int(self.window_ms / 1000 * self.sample_rate)

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        from scipy.fft import dct

        power = magnitudes(waveform, self.shortest, self.hop) ** 2
        mels = mel_filters(self.sample_rate, self.shortest, MELS, self.sample_rate / 2) @ power
        coefficients = dct(decibels(mels), axis=0, norm="ortho")[: self.n_mfcc].astype(np.float64)
        mean, std = coefficients.mean(axis=0), coefficients.std(axis=0)
        return ((coefficients - mean) / np.where(std > 0, std, 1.0)).T.astype(np.float32)


def _frames(samples: int, window: int, hop: int) -> int:
    """Frames of a centred transform: an odd window has its middle sample between the two halves that are padded."""
    return 1 + (samples + 2 * (window // 2) - window) // hop
