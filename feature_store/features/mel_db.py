"""librosa's mel spectrogram in decibels, scaled to [0, 1]: RespireNet's and Patch-Mix's second representation."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.spec import Spec

QUIETEST = 1e-10  # power that stands for silence
RANGE_DB = 80.0  # below the loudest value; what is lower is raised to it


class MelDbSpec(Spec):
    """Mel spectrogram relative to its loudest value: ``(frames, n_mels)`` in [0, 1], time first.

    STFT of 1,024 points with a periodic Hann window every 512, centred with zeros at the edges, power, Slaney's mel
    filters of equal area from 50 to 2,000 Hz, decibels below the loudest value down to 80, then min-max of the cycle.
    A cycle of one value, such as silence, is all zeros. This is the chain of librosa's `melspectrogram` and
    `power_to_db`. Filters so narrow that no FFT bin falls into them are empty, as librosa's are.
    """

    kind: Literal["mel-db"] = "mel-db"
    sample_rate: int = Field(default=16000, gt=0)
    seconds: float = Field(default=8.0, gt=0, le=120)
    n_mels: int = Field(default=128, ge=4, le=512)
    n_fft: int = Field(default=1024, ge=64)
    hop: int = Field(default=512, ge=1, description="samples")
    low_hz: float = Field(default=50.0, ge=0)
    high_hz: float = Field(default=2000.0, gt=0)

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
        import torch

        window, banks = _window_and_banks(self)
        spectrum = torch.stft(
            torch.from_numpy(waveform),
            self.n_fft,
            hop_length=self.hop,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(dim=-1).T @ banks
        decibels = power.clamp_min(QUIETEST).log10() * 10
        decibels = decibels.clamp_min(decibels.max() - RANGE_DB)
        low, high = decibels.min(), decibels.max()
        if high == low:
            return np.zeros(decibels.shape, np.float32)
        return ((decibels - low) / (high - low)).numpy()


@functools.lru_cache(maxsize=8)
def _window_and_banks(spec: MelDbSpec):
    """Window ``[n_fft]`` and mel filters ``[bins, n_mels]``."""
    import warnings

    import torch
    from torchaudio.functional import melscale_fbanks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty filters: the class says so
        banks = melscale_fbanks(
            spec.n_fft // 2 + 1, spec.low_hz, spec.high_hz, spec.n_mels, spec.sample_rate, "slaney", "slaney"
        )
    return torch.hann_window(spec.n_fft), banks
