"""EfficientAT's log-mel spectrogram: what the published MobileNetV3 weights were trained on."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.spec import Spec


class MelSpec(Spec):
    """Log-mel spectrogram of EfficientAT (Schmid et al., 2023) as at evaluation: ``(frames, n_mels)``, time first.

    32 kHz, pre-emphasis x[t] - 0.97 x[t-1] (one sample shorter), centred STFT of 1,024 points with a symmetric Hann
    window of 800 samples every 320, power, Kaldi's mel filters from 0 to 15,000 Hz, ``log(x + 1e-5)``, then
    ``(x + 4.5) / 5``.
    """

    kind: Literal["mel"] = "mel"
    sample_rate: int = Field(default=32000, gt=0, le=1_000_000)
    seconds: float = Field(default=4.0, gt=0, le=120)
    n_mels: int = Field(default=128, ge=4, le=512)
    n_fft: int = Field(default=1024, ge=64, le=65_536)
    window: int = Field(default=800, ge=16, le=65_536, description="samples")
    hop: int = Field(default=320, ge=1, le=1_000_000, description="samples")
    low_hz: float = Field(default=0.0, ge=0, le=500_000)
    high_hz: float = Field(default=15000.0, gt=0, le=500_000)

    @model_validator(mode="after")
    def _sound(self) -> MelSpec:
        if self.window > self.n_fft or self.samples <= self.n_fft:
            raise ValueError(
                f"a window of {self.window} must fit n_fft {self.n_fft}, and that the {self.samples} samples"
            )
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(f"filters must lie between 0 and {self.sample_rate / 2:g} Hz, low_hz below high_hz")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        return 1 + (self.samples - 1) // self.hop, self.n_mels

    @property
    def shortest(self) -> int:
        return self.n_fft + 1

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        import torch

        window, banks = _window_and_banks(self)
        signal = torch.from_numpy(waveform)
        signal = signal[..., 1:] - 0.97 * signal[..., :-1]
        spectrum = torch.stft(
            signal,
            self.n_fft,
            hop_length=self.hop,
            win_length=self.window,
            window=window,
            center=True,
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(dim=-1).transpose(-1, -2)
        return (((power @ banks + 1e-5).log() + 4.5) / 5.0).numpy()


@functools.lru_cache(maxsize=8)
def _window_and_banks(spec: MelSpec):
    """Window ``[window]`` and mel filters ``[bins, n_mels]``."""
    import torch
    from torchaudio.compliance.kaldi import get_mel_banks

    banks, _ = get_mel_banks(
        spec.n_mels,
        spec.n_fft,
        spec.sample_rate,
        spec.low_hz,
        spec.high_hz,
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )
    return torch.hann_window(spec.window, periodic=False), torch.nn.functional.pad(banks, (0, 1)).T.contiguous()
