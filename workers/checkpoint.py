"""The full state of an unfinished fold run, so that a killed one goes on to the same curve."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATE = "state.pt"
KEPT, WHOLE = "finished", ".whole"


class CheckpointFolder:
    """State of one fold run on this node: one file, replaced atomically, removed when the run is finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether a state has been saved."""
        return (self.folder / STATE).exists()

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved before; a kill in between leaves the former state."""
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{STATE}.{os.getpid()}"
        torch.save(state, temporary)
        temporary.replace(self.folder / STATE)

    def load(self) -> dict[str, Any] | None:
        """The saved state (tensors on the CPU), or None. A file that cannot be read counts as none."""
        import torch

        path = self.folder / STATE
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError):
            path.unlink(missing_ok=True)  # torn by a full disk: the run starts over
            return None

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keep a finished result's files until they can be published; the last one written makes them count."""
        folder = self.folder / KEPT
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / WHOLE).touch()

    def kept(self) -> dict[str, bytes] | None:
        """The files that could not be published before, or None."""
        folder = self.folder / KEPT
        if not (folder / WHOLE).exists():
            return None
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != WHOLE}

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
