"""What every representation has in common: a frozen spec that names it, sizes it and computes it."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from feature_store.errors import UserError
from feature_store.features.blank_clipping import clip_blank_bins
from feature_store.typed_settings import TypedSettings

LARGEST = 50_000_000  # values of a cycle, copies included


class Spec(TypedSettings):
    """One representation of a cycle, fixed to the last parameter.

    A subclass adds `kind`, its parameters, `shape`, `shortest` and `transform`. Equal specs have equal ids on every
    machine; raise the subclass' `revision` when the same parameters would give other values, or a default changes.
    """

    revision: ClassVar[int] = 2

    kind: str
    sample_rate: int = Field(gt=0, le=1_000_000, description="rate the recording is resampled to, Hz")
    seconds: float = Field(gt=0, le=120, description="fixed length of a cycle, s")
    fade_seconds: float = Field(default=0.0625, ge=0, le=60, description="linear fade at both ends of the recording, s")
    pad: Literal["repeat", "zero", "augment", "stretch"] = Field(
        default="repeat",
        description="how a shorter cycle is filled: by itself, by silence, by augmented copies of itself, or not at "
        "all (stretch: its spectrogram is enlarged, as Patch-Mix's release does for `aug`)",
    )
    denoise: float = Field(
        default=0.0, ge=0, le=10, description="wavelet denoising of each cycle, in universal thresholds; 0: none"
    )
    keep: Literal["first", "last"] = Field(default="first", description="the end of a longer cycle that is used")
    band_pass: tuple[float, float] | None = Field(
        default=None,
        description="edges of a Butterworth filter over the whole recording, Hz; 200 to 1800 in RespireNet",
    )
    full_scale: float | None = Field(
        default=None,
        gt=1,
        description="what the samples of a float file are divided by if they pass 16, since they are whole numbers; "
        "32768 for 16 bit; none: such a recording is refused",
    )
    clip_blank: bool = Field(
        default=False, description="cut blank bins off the upper edge of the spectrogram and enlarge the rest"
    )
    copies: int = Field(
        default=0, ge=0, le=16, description="augmented copies stored beside every cycle, for training only"
    )
    copy_of: Literal["previous", "cycle"] = Field(
        default="previous",
        description="what a copy is made of by one operator: the copy before it, fitted as a cycle is (Patch-Mix), or "
        "the cycle, filled up on a random side (CycleGuardian)",
    )
    copy_by: Literal["operator", "noise"] = Field(
        default="operator",
        description="what changes a copy: one of five operators, or white noise over the whole cycle (the CRNN's), "
        "which is always added to the cycle itself",
    )
    noise_sigma: float = Field(
        default=0.001, gt=0, le=1, description="deviation of the noise of `copy_by` noise; full scale is 1"
    )
    noise_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the cycles drawn in training that have it, copies / (1 + copies) at most: beyond what "
        "it takes, copies stay as the cycle is; none: every copy has it",
    )
    table: int = Field(
        default=0, ge=0, le=4096, description="numbers beside each sound that the corpus gives; 44 for aicup-voice"
    )
    dtype: Literal["float32", "float16"] = Field(default="float32", description="type of the stored values")

    @model_validator(mode="after")
    def _sound_band(self) -> Spec:
        nyquist = self.sample_rate / 2
        if self.band_pass and not 0 < self.band_pass[0] < self.band_pass[1] < nyquist:
            raise ValueError(f"band_pass must be two rising frequencies between 0 and {nyquist:g} Hz, without these")
        return self

    @model_validator(mode="after")
    def _fits_memory(self) -> Spec:
        try:
            values = math.prod(self.stored_shape)
        except ZeroDivisionError:  # a step of no samples: the subclass, whose turn comes next, refuses it
            return self
        if values > LARGEST:
            raise ValueError(
                f"a cycle of this feature has {values:,} values, more than {LARGEST:,}: take fewer seconds or copies, "
                "or a longer step between frames"
            )
        return self

    @model_validator(mode="after")
    def _enough_copies(self) -> Spec:
        largest = self.copies / (1 + self.copies)
        if self.copies and self.copy_by == "noise" and (self.noise_share or 0) > largest:
            raise ValueError(f"{self.copies} copies beside a cycle make a noise_share of {largest:.3g} at most")
        return self

    @property
    def noise_chance(self) -> float:
        """That a copy of `copy_by` noise has it, for `noise_share` of uniform draws among a cycle and its copies."""
        return 1.0 if self.noise_share is None else self.noise_share * (1 + self.copies) / self.copies

    @property
    def samples(self) -> int:
        """Length of a cycle in samples."""
        return round(self.seconds * self.sample_rate)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one cycle's values, time first: ``(frames, bins)``, or ``(channels, frames, bins)``."""

    @property
    def channels(self) -> int | None:
        """Maps of a cycle that lie over each other; None where its values are a single map without that axis."""
        return self.shape[0] if len(self.shape) == 3 else None

    @property
    def scalars(self) -> int:
        """Numbers of a cycle that stand beside its values: those of `describe`, then `table` of the corpus."""
        return self.table

    @property
    @abstractmethod
    def shortest(self) -> int:
        """Samples that `transform` needs at least: one window."""

    @abstractmethod
    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """One waveform ``[samples]`` of `shortest` samples or more to `shape`, or with `pad` stretch to its own."""

    def describe(self, waveform: np.ndarray) -> np.ndarray:
        """The numbers of one waveform ``[samples]``, without the corpus' own: ``[scalars - table]`` float32."""
        return np.empty(0, np.float32)

    def compute(self, waveforms: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Waveforms ``[batch, samples]`` float32 in [-1, 1] to values ``[batch, *shape]`` float32.

        With `pad` stretch they may be of any lengths: each is transformed at its own and the result enlarged or
        reduced. Any resizing is bilinear.

        Raises:
            UserError: a waveform is shorter than one window of the feature.
            ValueError: it is not of the spec's length, and `pad` is not stretch.
        """
        values = np.empty((len(waveforms), *self.shape), np.float32)
        for row, waveform in zip(values, waveforms, strict=True):  # one at a time stays in the processor's cache
            row[:] = self._compute_one(waveform)
        return values

    def compute_scalars(
        self, waveforms: Sequence[np.ndarray] | np.ndarray, table: Sequence[float] = ()
    ) -> np.ndarray | None:
        """The numbers beside the values of each waveform, ``[batch, scalars]`` float32; None where there are none.

        Args:
            waveforms: of one recording.
            table: what the corpus knows of the recording, if the feature takes it.

        Raises:
            UserError: the recording has less or more of it than the feature takes.
        """
        if not self.scalars:
            return None
        if self.table and len(table) != self.table:
            what = f"the feature takes {self.table} numbers beside each sound, and there are {len(table)}"
            raise UserError(what, hint="a corpus brings them with its recordings, as many as feature.table says")
        own = np.asarray(table[: self.table], np.float32)
        return np.stack([np.concatenate([self.describe(waveform), own]) for waveform in waveforms])

    def _compute_one(self, waveform: np.ndarray) -> np.ndarray:
        if self.pad != "stretch" and len(waveform) != self.samples:
            raise ValueError(f"a waveform of {len(waveform)} samples instead of {self.samples}")
        if len(waveform) < self.shortest:
            raise UserError(
                f"a cycle of {len(waveform)} samples is shorter than a window of {self.kind}, {self.shortest} samples",
                hint="take another `pad` than stretch, or correct its annotation",
            )
        image = self.transform(waveform)
        if self.clip_blank:
            image = clip_blank_bins(image)
        return image if image.shape == self.shape else _resize(image, self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of what is stored for one cycle: `shape`, or ``(1 + copies, *shape)``, the cycle itself first."""
        return (1 + self.copies, *self.shape) if self.copies else self.shape

    @property
    def feature_id(self) -> str:
        """``<kind>-<hash of the spec>``, the same before and after a parameter with a default is added to a spec."""
        content = {"revision": self.revision, **self.model_dump(mode="json", exclude_defaults=True), "kind": self.kind}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``[frames, bins]`` to `shape`, bilinear between the centres of its elements, as image libraries do."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(pixels, shape, mode="bilinear", align_corners=False)[0, 0].numpy()
