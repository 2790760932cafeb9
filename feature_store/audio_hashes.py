"""SHA-256 of audio files: what tells that a recording has changed, and that two recordings are one sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from feature_store.datasets.base import Problem, Recording

BLOCK = 1 << 20  # bytes


def hash_audio(recordings: Iterable[Recording]) -> tuple[dict[str, str], list[Problem]]:
    """The hash of each recording's audio file by the recording's name, and the files that cannot be read.

    A recording without audio is in neither.
    """
    there = [(recording.name, recording.audio) for recording in recordings if recording.audio is not None]
    with ThreadPoolExecutor() as pool:
        digests = dict(zip((name for name, _ in there), pool.map(_digest, (path for _, path in there)), strict=True))
    hashes = {name: found for name, found in digests.items() if isinstance(found, str)}
    return hashes, [found for found in digests.values() if isinstance(found, Problem)]


def _digest(path: Path) -> str | Problem:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        return Problem("error", str(path), f"cannot be read: {error.strerror}")
    return digest.hexdigest()
