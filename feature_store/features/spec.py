"""What every representation has in common: a frozen spec that names it, sizes it and computes it."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """One representation of a cycle, fixed to the last parameter.

    A subclass adds `kind`, its parameters, `shape` and `compute`. Equal specs have equal ids on every machine;
    raise the subclass' `revision` when the same parameters would give other values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    revision: ClassVar[int] = 1

    kind: str
    sample_rate: int = Field(gt=0, description="rate the recording is resampled to, Hz")
    seconds: float = Field(gt=0, le=120, description="fixed length of a cycle, s")
    fade_seconds: float = Field(default=0.0625, ge=0, description="linear fade at both ends of the recording, s")
    pad: Literal["repeat", "zero"] = Field(default="repeat", description="how a shorter cycle is filled")
    dtype: Literal["float32", "float16"] = Field(default="float32", description="type of the stored values")

    @property
    def samples(self) -> int:
        """Length of a cycle in samples."""
        return round(self.seconds * self.sample_rate)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one cycle's values, time first: ``(frames, bins)``."""

    @abstractmethod
    def compute(self, waveforms: np.ndarray) -> np.ndarray:
        """Waveforms ``[batch, samples]`` float32 in [-1, 1] to values ``[batch, *shape]`` float32."""

    @property
    def feature_id(self) -> str:
        """``<kind>-<hash of the spec>``."""
        content: dict[str, Any] = {"revision": self.revision, **self.model_dump(mode="json")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
