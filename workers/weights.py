"""Pretrained files: where they are, and whether they are what the config says."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.config.models import Pretrained


def local_weights(pretrained: Pretrained | None, folder: Path) -> Path | None:
    """The file of pretrained weights on this node, its content checked.

    Raises:
        UserError: the file is missing, or its content is not what the config was made with.
    """
    if pretrained is None:
        return None
    path = _find(pretrained.file, folder)
    if pretrained.sha256 and _digest(path) != pretrained.sha256:
        raise UserError(
            "is not the pretrained file that the config was made with",
            where=str(path),
            hint=f"its SHA-256 should begin with {pretrained.sha256[:12]}",
        )
    return path


def pin_weights(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """The config with the SHA-256 of its pretrained file filled in, so that its hash covers the content.

    Raises:
        UserError: the file is missing.
    """
    pretrained = config.model.pretrained
    if pretrained is None or pretrained.sha256:
        return config
    pinned = pretrained.model_copy(update={"sha256": _digest(_find(pretrained.file, folder))})
    return config.model_copy(update={"model": config.model.model_copy(update={"pretrained": pinned})})


def _find(file: str, folder: Path) -> Path:
    for candidate in (Path(file).expanduser(), folder / file):
        if candidate.is_file():
            return candidate.resolve()
    raise UserError(
        f"pretrained weights '{file}' not found here nor in {folder}",
        hint="put the file there, set LUNGTUNE_WEIGHTS to its folder, or set model.pretrained to null",
    )


def _digest(path: Path) -> str:
    """SHA-256 of a file, computed once while the file stays as it is."""
    about = path.stat()
    return _digest_of(path, about.st_size, about.st_mtime_ns, about.st_ino)


@functools.cache
def _digest_of(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
