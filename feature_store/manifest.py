"""The manifest of a built feature: which parts it is made of, and what each recording was computed from."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict

VERSION = 1


class Part(BaseModel):
    """A Parquet file of the feature; every row in it is live."""

    model_config = ConfigDict(frozen=True)

    file: str
    rows: int
    bytes: int
    sha256: str


class RecordingEntry(BaseModel):
    """What a recording's rows were computed from, and where they are."""

    model_config = ConfigDict(frozen=True)

    key: str
    audio_hash: str
    part: str
    rows: int


class Manifest(BaseModel):
    """Commit point of a feature: what it names is there, what it does not name is not part of the feature."""

    version: int = VERSION
    feature_id: str
    spec: dict[str, Any]
    shape: list[int]
    dtype: str
    scalars: int = 0
    parts: list[Part]
    recordings: dict[str, RecordingEntry]
    created: str

    @property
    def content_hash(self) -> str:
        """16 hex digits over what every recording was computed from: equal for equal data, however it was built."""
        lines = sorted(f"{name}\t{entry.key}" for name, entry in self.recordings.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


def recording_key(audio_hash: str, annotation_hash: str, feature_id: str) -> str:
    """What a recording's rows depend on: its sound, its annotation, the feature's spec and revision."""
    return hashlib.sha256(f"{audio_hash}\n{annotation_hash}\n{feature_id}".encode()).hexdigest()[:32]
