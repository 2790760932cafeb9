"""The manifest of a built feature: which parts it is made of, and what each recording was computed from."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

VERSION = 1


class Part(BaseModel):
    """A Parquet file of the feature; every row in it is live."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(pattern=r"^part-[0-9a-f]{16}\.parquet$")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class RecordingEntry(BaseModel):
    """What a recording's rows were computed from, and where they are."""

    model_config = ConfigDict(frozen=True)

    key: str
    audio_hash: str
    part: str
    rows: int = Field(ge=0)


class Manifest(BaseModel):
    """Commit point of a feature: what it names is there, what it does not name is not part of the feature."""

    version: int = VERSION
    feature_id: str
    spec: dict[str, Any]
    shape: list[PositiveInt] = Field(min_length=1)
    dtype: Literal["float32", "float16"]
    scalars: int = Field(default=0, ge=0)
    parts: list[Part]
    recordings: dict[str, RecordingEntry]
    created: str

    @model_validator(mode="after")
    def _parts_hold_the_recordings(self) -> Manifest:
        """Every part has as many rows as its recordings have together, and there is no other part."""
        rows: Counter[str] = Counter()
        for entry in self.recordings.values():
            rows[entry.part] += entry.rows
        named = {part.file: part.rows for part in self.parts}
        if len(named) != len(self.parts):
            raise ValueError("a part is named twice")
        for file in sorted(rows.keys() | named.keys()):
            if named.get(file, 0) != rows[file]:
                raise ValueError(f"part {file} has {named.get(file, 0)} rows, its recordings {rows[file]}")
        return self

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
