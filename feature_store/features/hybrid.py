"""CycleGuardian's hybrid spectrogram: constant-Q, gammatone and mel as three maps of one cycle."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features.cqt import ConstantQ
from feature_store.features.cqt_octaves import check_octaves, magnitude_by_octaves
from feature_store.features.gammatone import gammatone_weights
from feature_store.features.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

QUIETEST = 1e-10  # magnitude (constant-Q) or power (the others) that counts as silence: torchaudio's AmplitudeToDB
STEADY_DB = 1e-3  # a bin whose level varies by less says nothing


class HybridSpec(Spec):
    """Three spectrograms in decibels, ``(3, frames, bins)``: constant-Q, gammatone, mel (docs/specification.md, 3.2).

    At its defaults 3 x 688 x 84 values of the last eight seconds at 22 kHz, a shorter cycle followed by itself, without
    fades. All have a hop of 256 and frames centred at its multiples, the signal mirrored at its ends.

    | map | transform | bins |
    | --- | --- | --- |
    | 0 | constant-Q magnitude (`ConstantQ`) | 12 an octave from 32.7 to 3,951 Hz; `high_hz` does not apply to it |
    | 1 | power spectrum of 1,024 points, gammatone filters | even on the ERB scale from 32.7 to below 3,000 Hz |
    | 2 | power spectrum of 1,024 points, window 1,000, mel filters | HTK's mel scale, 32.7 to 3,000 Hz |

    With `cqt` seed_compat map 0 is computed by octaves (`cqt_octaves`), as CycleGuardian's.

    Each bin is then standardised over the cycle's time: (x - mean) / std, with the unbiased deviation and, where the
    level does not vary, STEADY_DB in its place. CycleGuardian divides by zero there; here silence is all zeros.
    """

    kind: Literal["hybrid"] = "hybrid"
    sample_rate: int = Field(default=22000, gt=0, le=1_000_000)
    seconds: float = Field(default=8.0, gt=0, le=120)
    fade_seconds: float = Field(default=0.0, ge=0, le=60)
    keep: Literal["first", "last"] = "last"
    bins: int = Field(default=84, ge=4, le=512, description="of each map")
    hop: int = Field(default=256, ge=16, le=1_000_000, description="samples")
    n_fft: int = Field(default=1024, ge=64, le=65_536)
    mel_window: int = Field(default=1000, ge=16, le=65_536, description="samples")
    bins_per_octave: int = Field(default=12, ge=1, le=96, description="of the constant-Q map")
    low_hz: float = Field(default=32.7, gt=0, le=500_000)
    high_hz: float = Field(
        default=3000.0, gt=0, le=500_000, description="upper end of the gammatone and the mel filters"
    )
    cqt: Literal["direct", "seed_compat"] = Field(
        default="direct", description="seed_compat: by octaves through short filters, as nnAudio does"
    )

    @model_validator(mode="after")
    def _sound(self) -> HybridSpec:
        if self.pad == "stretch" or self.clip_blank:
            raise ValueError("three maps cannot be enlarged: set clip_blank to false, and pad to another than stretch")
        if self.mel_window > self.n_fft:
            raise ValueError(f"a window of {self.mel_window} does not fit n_fft {self.n_fft}")
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(f"filters must lie between 0 and {self.sample_rate / 2:g} Hz, low_hz below high_hz")
        _ = self.constant_q  # raises where its bins do not fit
        if self.cqt == "seed_compat":
            check_octaves(self.constant_q)
        return self

    @property
    def constant_q(self) -> ConstantQ:
        """The transform of map 0."""
        return ConstantQ(self.sample_rate, self.samples, self.hop, self.bins, self.low_hz, self.bins_per_octave)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, 1 + self.samples // self.hop, self.bins

    @property
    def shortest(self) -> int:
        return max(self.n_fft, self.constant_q.margin + 1)

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """``[samples]`` to ``[3, frames, bins]``, finite for every finite waveform."""
        return standardise_bins(self.decibels(waveform)).numpy()

    def decibels(self, waveform: np.ndarray) -> Tensor:
        """The three maps before they are standardised, ``[3, frames, bins]`` in dB."""
        import torch

        signal = torch.from_numpy(waveform)
        hann, mel_hann, gammatone, mel = _windows_and_banks(self)
        power = torch.stack(
            [self._power(signal, hann) @ gammatone, self._power(signal, mel_hann) @ mel],
        )
        by = magnitude_by_octaves if self.cqt == "seed_compat" else ConstantQ.magnitude
        levels = torch.cat([torch.from_numpy(by(self.constant_q, waveform))[None], power])
        return levels.clamp_min_(QUIETEST).log10_() * torch.tensor([20.0, 10.0, 10.0])[:, None, None]

    def _power(self, signal: Tensor, window: Tensor) -> Tensor:
        """Power spectrum ``[frames, n_fft // 2 + 1]``."""
        import torch

        spectrum = torch.stft(signal, self.n_fft, self.hop, len(window), window, center=True, return_complex=True)
        return torch.view_as_real(spectrum).square().sum(dim=-1).T


def standardise_bins(levels: Tensor) -> Tensor:
    """``[maps, frames, bins]``, each bin with mean 0 and deviation 1 over its frames; a steady one is all but zero."""
    mean, std = levels.mean(dim=1, keepdim=True), levels.std(dim=1, keepdim=True)
    return (levels - mean) / std.clamp_min(STEADY_DB)


@functools.lru_cache(maxsize=4)
def _windows_and_banks(spec: HybridSpec) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of the gammatone and the mel spectrum, and the filters of both, ``[n_fft // 2 + 1, bins]`` each."""
    import torch
    from torchaudio.functional import melscale_fbanks

    gammatone = gammatone_weights(spec.sample_rate, spec.n_fft, spec.low_hz, spec.high_hz, spec.bins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a filter so narrow that no FFT bin falls into it is empty: its bin is steady
        mel = melscale_fbanks(spec.n_fft // 2 + 1, spec.low_hz, spec.high_hz, spec.bins, spec.sample_rate, None, "htk")
    return torch.hann_window(spec.n_fft), torch.hann_window(spec.mel_window), torch.from_numpy(gammatone).float(), mel
