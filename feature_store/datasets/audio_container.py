"""How many bytes of sound an audio file declares and how many it holds, container by container.

libsndfile silently takes a cut file for a shorter one, so the chunks are walked here. Sources: Microsoft's "Multimedia
Programming Interface" (RIFF), EBU Tech 3306 (RF64), Sony's "Wave64", Apple's "AIFF-C" and "Core Audio Format", Sun's
`audio(5)` (AU), NIST's SPHERE.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PLACEHOLDER_RANGE = 1 << 16  # how far below 2 GiB or 4 GiB writers place a size that they do not know
GUID = 16
RF64_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True)
class SoundBytes:
    """Where a file's sound begins, and its bytes.

    Attributes:
        start: offset in the file.
        declared: as the header says; None where the writer did not know it.
        held: of the declared ones, or up to the file's end.
    """

    start: int
    declared: int | None
    held: int

    @property
    def missing(self) -> float:
        """Share of the declared bytes that are not there."""
        return 1 - self.held / self.declared if self.declared else 0.0


def sound_bytes(path: Path, container: str) -> SoundBytes | None:
    """What a file declares and holds; None if it has no sound, or if it is FLAC, whose samples are compressed.

    Args:
        path: the file.
        container: libsndfile's name of it, one of `CONTAINERS`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        found = CONTAINERS[container](file, size)
    if found is None:
        return None
    start, declared = found
    there = max(0, size - start)
    return SoundBytes(start, declared, there if declared is None else min(declared, there))


def _placeholder(size: int) -> bool:
    """Whether a size is what programs write that stream: just below 2 GiB (SoX, arecord) or 4 GiB (FFmpeg)."""
    return any(limit - PLACEHOLDER_RANGE <= size <= limit for limit in (1 << 31, 1 << 32))


def _chunks(file: BinaryIO, size: int, first: int, head: str) -> Iterator[tuple[bytes, int, int]]:
    """Kind, offset of the content and length of each chunk that begins in the file; chunks begin at even offsets."""
    offset, width = first, struct.calcsize(head)
    while offset + width <= size:
        file.seek(offset)
        kind, length = struct.unpack(head, file.read(width))
        yield kind, offset + width, length
        offset += width + length + length % 2


def _riff(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    magic = file.read(4)
    order = ">" if magic == b"RIFX" else "<"
    (whole,) = struct.unpack(f"{order}I", file.read(4))
    for kind, start, length in _chunks(file, size, 12, f"{order}4sI"):
        if kind == b"data":
            nothing_after = _placeholder(whole) or whole + 8 <= start  # 0 is a size if the file goes on after it
            return start, None if _placeholder(length) or (length == 0 and nothing_after) else length
    return None


def _rf64(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    declared = 0
    for kind, start, length in _chunks(file, size, 12, "<4sI"):
        if kind == b"ds64":
            file.seek(start + 8)
            (declared,) = struct.unpack("<Q", file.read(8))
        elif kind == b"data":
            declared = declared if length == RF64_UNKNOWN else length
            return start, None if declared == 0 or declared >= 1 << 62 else declared
    return None


def _w64(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    offset = GUID + 8 + GUID
    while offset + GUID + 8 <= size:
        file.seek(offset)
        kind, length = struct.unpack(f"<{GUID}sQ", file.read(GUID + 8))  # a length counts its own head
        if kind[:4] == b"data":
            known = GUID + 8 < length < 1 << 62
            return offset + GUID + 8, length - GUID - 8 if known else None
        offset += max(GUID + 8, (length + 7) // 8 * 8)
    return None


def _aiff(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    for kind, start, length in _chunks(file, size, 12, ">4sI"):
        if kind == b"SSND":
            file.seek(start)
            (skipped,) = struct.unpack(">I", file.read(4).ljust(4, b"\0"))
            unknown = length == 0 or _placeholder(length)
            return start + 8 + skipped, None if unknown else max(0, length - 8 - skipped)
    return None


def _au(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    order = ">" if file.read(4) == b".snd" else "<"
    start, declared = struct.unpack(f"{order}II", file.read(8))
    return start, None if _placeholder(declared) else declared


def _caf(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    offset = 8
    while offset + 12 <= size:
        file.seek(offset)
        kind, length = struct.unpack(">4sq", file.read(12))
        if kind == b"data":
            return offset + 16, None if length < 0 else max(0, length - 4)  # behind a count of edits
        offset += 12 + max(0, length)
    return None


def _sphere(file: BinaryIO, size: int) -> tuple[int, int | None] | None:
    text = file.read(1024).decode("latin-1")
    numbers = dict(re.findall(r"^(\w+) -i (\d+)", text, re.MULTILINE))
    start = int(text.splitlines()[1])
    if "sample_count" not in numbers:
        return start, None
    wide = int(numbers.get("channel_count", 1)) * int(numbers.get("sample_n_bytes", 2))
    return start, int(numbers["sample_count"]) * wide


def _flac(file: BinaryIO, size: int) -> None:
    return None


CONTAINERS: dict[str, Callable[[BinaryIO, int], tuple[int, int | None] | None]] = {
    "WAV": _riff,
    "WAVEX": _riff,
    "RF64": _rf64,
    "W64": _w64,
    "AIFF": _aiff,
    "AU": _au,
    "CAF": _caf,
    "NIST": _sphere,
    "FLAC": _flac,
}
