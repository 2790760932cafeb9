"""The full state of an unfinished fold run, so that a killed one goes on to the same curve."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

STATE = "state.pt"


class CheckpointFolder:
    """State of one fold run on this node: one file, replaced atomically, removed when the run is finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
