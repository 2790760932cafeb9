"""librosa's mel spectrogram in decibels, scaled to [0, 1]: RespireNet's and Patch-Mix's second representation."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.spec import Spec
from feature_store.features.spectra import decibels, magnitudes, mel_filters


class MelDbSpec(Spec):
    """Mel spectrogram relative to its loudest value: ``(frames, n_mels)`` in [0, 1], time first.

    STFT of 1,024 points with a periodic Hann window every 512, centred with zeros at the edges, power, Slaney's mel
    filters of equal area from 50 to 2,000 Hz, decibels below the loudest value down to 80, then min-max of the cycle.
    A cycle of one value, such as silence, is all zeros. This is the chain of librosa's `melspectrogram` and
    `power_to_db`. Filters so narrow that no FFT bin falls into them are empty, as librosa's are.
    """

    kind: Literal["mel-db"] = "mel-db"
    sample_rate: int = Field(default=16000, gt=0, le=1_000_000)
    seconds: float = Field(default=8.0, gt=0, le=120)
    n_mels: int = Field(default=128, ge=4, le=512)
    n_fft: int = Field(default=1024, ge=64, le=65_536)
    hop: int = Field(default=512, ge=1, le=1_000_000, description="samples")
    low_hz: float = Field(default=50.0, ge=0, le=500_000)
    high_hz: float = Field(default=2000.0, gt=0, le=500_000)

    @model_validator(mode="after")
    def _sound(self) -> MelDbSpec:
        if self.samples < self.n_fft:
            raise ValueError(f"{self.samples} samples are shorter than n_fft {self.n_fft}")
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(f"filters must lie between 0 and {self.sample_rate / 2:g} Hz, low_hz below high_hz")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        return 1 + self.samples // self.hop, self.n_mels

    @property
    def shortest(self) -> int:
        return self.n_fft

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        filters = mel_filters(self.sample_rate, self.n_fft, self.n_mels, self.high_hz, self.low_hz)
        values = decibels((filters @ magnitudes(waveform, self.n_fft, self.hop) ** 2).T)
        low, high = values.min(), values.max()
        return np.zeros_like(values) if high == low else (values - low) / (high - low)
