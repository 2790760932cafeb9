"""The hash of every recording's audio file: by it a build knows what has been replaced."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from feature_store.datasets.base import Corpus, Problem


def hash_audio(corpus: Corpus) -> tuple[dict[str, str], list[Problem]]:
    """SHA-256 of the audio file of every recording that has one, and the files that cannot be read."""
    there = [(recording.name, recording.audio) for recording in corpus.recordings if recording.audio is not None]

    def digest(path: Path) -> str | Problem:
        try:
            with path.open("rb") as file:
                return _digest(file)
        except OSError as error:
            return Problem("error", str(path), f"cannot be read: {error.strerror}")

    with ThreadPoolExecutor() as pool:
        digests = dict(zip((name for name, _ in there), pool.map(digest, (path for _, path in there)), strict=True))
    hashes = {name: found for name, found in digests.items() if isinstance(found, str)}
    return hashes, [found for found in digests.values() if isinstance(found, Problem)]


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
