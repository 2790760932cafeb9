"""Nine maps and 36 scalars of a short clip: what the breathing-phase classifier is fed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.features import phase9_maps as maps
from feature_store.features.phase9_scalars import COUNT, scalars
from feature_store.features.spec import Spec
from feature_store.features.spectra import delta, magnitudes

CHANNELS = ("chroma", "gammatone", "lpc", "mel", "mel_delta", "mel_delta2", "mfcc", "mod_spec", "tempogram")


class Phase9Spec(Spec):
    """``(9, frames, 128)``: maps of a clip over each other, and 36 scalars beside them.

    Specified in docs/specification.md, 5.2 and 5.3.

    The maps stand in the order of their names. Each is standardised, as a whole or by row, before it is padded with
    its least value or cut to 128 rows. The source system's code has linear prediction (`lpc`) where its description
    has an STFT (`stft`); `ninth` chooses. Its linear prediction covers the first 0.63 s only: here it is aligned with
    the other maps, unless `lpc_frames` is seed_compat. What it calls gammatone is a mel filter bank.
    """

    kind: Literal["phase9"] = "phase9"
    sample_rate: int = Field(
        default=16000, ge=13000, le=1_000_000, description="Hz; the highest band of the contrast begins at 6.4 kHz"
    )
    seconds: float = Field(default=1.0, ge=0.25, le=10)
    fade_seconds: float = Field(default=0.0, ge=0, le=60)
    pad: Literal["repeat", "zero", "augment", "stretch"] = "zero"
    ninth: Literal["lpc", "stft"] = Field(default="lpc", description="linear prediction, or log-power spectrum")
    lpc_frames: Literal["aligned", "seed_compat"] = Field(
        default="aligned", description="seed_compat: every 10 ms and cut off, so that only the first 0.63 s are covered"
    )

    @model_validator(mode="after")
    def _sound(self) -> Phase9Spec:
        if self.pad == "stretch" or self.clip_blank or self.copies:
            raise ValueError("its maps and scalars are of one clip of one length: no stretch, clip_blank or copies")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The maps in their order."""
        return (
            tuple(sorted("stft" if name == "lpc" else name for name in CHANNELS)) if self.ninth == "stft" else CHANNELS
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(CHANNELS), 1 + self.samples // maps.HOP, maps.ROWS

    @property
    def shortest(self) -> int:
        return maps.N_FFT

    @property
    def scalars(self) -> int:
        return COUNT + self.table

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        rate, spectrum = self.sample_rate, magnitudes(waveform, maps.N_FFT, maps.HOP)
        mel, frames = maps.mel_decibels(spectrum, rate), spectrum.shape[1]
        made = {
            "chroma": maps.chroma(waveform, spectrum, rate),
            "gammatone": maps.gammatone(spectrum, rate),
            "mel": maps.whole(mel),
            "mel_delta": maps.whole(delta(mel, 1)),
            "mel_delta2": maps.whole(delta(mel, 2)),
            "mfcc": maps.mfcc(spectrum, rate),
            "mod_spec": maps.modulation(mel),
            "tempogram": maps.tempogram(waveform, rate),
        }
        if self.ninth == "stft":
            made["stft"] = maps.log_power(spectrum)
        else:
            made["lpc"] = maps.lpc(waveform, frames, rate, aligned=self.lpc_frames == "aligned")
        return np.stack([maps.fitted(made[name]).T for name in self.names]).astype(np.float32)

    def describe(self, waveform: np.ndarray) -> np.ndarray:
        return scalars(waveform, magnitudes(waveform, maps.N_FFT, maps.HOP), self.sample_rate)
