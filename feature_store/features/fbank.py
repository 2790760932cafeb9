"""Kaldi's log-mel filter bank with AudioSet's normalisation: what AST and Patch-Mix CL are fed."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.spec import Spec


class FbankSpec(Spec):
    """Log-mel filter bank as Kaldi computes it: ``(frames, n_mels)``.

    The defaults are those of Patch-Mix CL (docs/specification.md, 2.2): 25 ms Hanning window every 10 ms, DC removed
    per frame, pre-emphasis 0.97, power spectrum, no dither, no energy, edges snipped; then ``(x - mean) / (2 std)``
    with AudioSet's statistics (Gong et al., 2021). Within 1e-5 of `torchaudio.compliance.kaldi.fbank` in float32.
    Stored as float16, values of real cycles (all within +-2) are off by up to 0.0005, half of float16's step there.
    """

    kind: Literal["fbank"] = "fbank"
    sample_rate: int = Field(default=16000, gt=0, le=1_000_000)
    seconds: float = Field(default=8.0, gt=0, le=120)
    n_mels: int = Field(default=128, ge=4, le=512)
    frame_ms: float = Field(default=25.0, gt=0, le=1000, description="length of a window, ms")
    shift_ms: float = Field(default=10.0, gt=0, le=1000, description="step between windows, ms")
    low_hz: float = Field(default=20.0, ge=0, le=500_000)
    high_hz: float = Field(
        default=0.0, ge=-500_000, le=500_000, description="upper end of the highest filter, Hz; 0 is Nyquist"
    )
    preemphasis: float = Field(default=0.97, ge=0, le=1)
    mean: float = Field(default=-4.2677393, ge=-1e6, le=1e6)
    std: float = Field(default=4.5689974, gt=0, le=1e6)

    @model_validator(mode="after")
    def _sound(self) -> FbankSpec:
        nyquist = self.sample_rate / 2
        if self.window < 2 or self.shift < 1:
            raise ValueError(f"a window of {self.frame_ms} ms and a step of {self.shift_ms} ms hold no samples")
        if self.samples < self.window:
            raise ValueError(f"{self.seconds} s are shorter than one window of {self.frame_ms} ms")
        if not 0 <= self.low_hz < (self.high_hz or nyquist) <= nyquist:
            raise ValueError(f"filters must lie between 0 and {nyquist:g} Hz, low_hz below high_hz")
        return self

    @property
    def window(self) -> int:
        """Samples of a window."""
        return int(self.sample_rate * self.frame_ms * 0.001)

    @property
    def shift(self) -> int:
        """Samples between windows."""
        return int(self.sample_rate * self.shift_ms * 0.001)

    @property
    def shape(self) -> tuple[int, int]:
        return 1 + (self.samples - self.window) // self.shift, self.n_mels

    @property
    def shortest(self) -> int:
        return self.window

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """``[samples]`` to ``[frames, n_mels]``, rounding as torchaudio does: quiet bands are small differences."""
        import torch

        window, banks, padded = _window_and_banks(self)
        frames = torch.from_numpy(waveform).unfold(-1, self.window, self.shift)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        emphasised = frames.clone()
        emphasised[:, 1:] -= self.preemphasis * frames[:, :-1]
        emphasised[:, 0] -= self.preemphasis * frames[:, 0]
        spectrum = torch.view_as_real(torch.fft.rfft(emphasised.mul_(window), n=padded))
        power = spectrum[..., 0].square().addcmul_(spectrum[..., 1], spectrum[..., 1])
        energies = (power @ banks).clamp_min_(torch.finfo(torch.float32).eps).log_()
        return energies.sub_(self.mean).div_(2 * self.std).numpy()


@functools.lru_cache(maxsize=8)
def _window_and_banks(spec: FbankSpec):
    """Window ``[window]``, mel filters ``[bins, n_mels]`` and FFT length, which is a power of two."""
    import torch
    from torchaudio.compliance.kaldi import get_mel_banks

    padded = 1 << (spec.window - 1).bit_length()
    banks, _ = get_mel_banks(
        spec.n_mels,
        padded,
        spec.sample_rate,
        spec.low_hz,
        spec.high_hz,
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )
    banks = torch.nn.functional.pad(banks, (0, 1))  # Kaldi leaves the Nyquist bin out
    return torch.hann_window(spec.window, periodic=False), banks.T.contiguous(), padded
