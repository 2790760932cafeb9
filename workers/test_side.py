"""The test side behind a seal: it is read only after the reading has been written down."""

from __future__ import annotations

from typing import Literal, Protocol

import torch

from workers.data import FoldData
from workers.device import Rows

Why = Literal["end", "watched"]
"""`end`: the training is over, and its chosen weights are evaluated; `watched`: `watch_test` scores this epoch."""


class NoteRead(Protocol):
    """Writes a reading of the test side down; if it raises, nothing is read."""

    def __call__(self, *, epoch: int, why: Why) -> None: ...


class SealedSide:
    """The only way from a training to its test side.

    Its features and labels are gathered on the first reading, not before, and each reading is noted before it happens.
    So a training cannot have seen the test side earlier, or more often, than the notes say.

    Args:
        data: the fold.
        device: where batches are wanted.
        note: writes a reading down; without it every reading is refused.
    """

    def __init__(self, data: FoldData, device: torch.device, note: NoteRead | None) -> None:
        self._data, self._device, self._note = data, device, note
        self._rows: Rows | None = None
        self.reads = 0

    def read(self, epoch: int, why: Why) -> Rows:
        """The test side, for one evaluation.

        Args:
            epoch: the last one that has been trained.
            why: for the record.

        Raises:
            RuntimeError: nobody writes the reading down.
        """
        if self._note is None:
            raise RuntimeError("the test side stays closed: there is nobody to write its reading down")
        self._note(epoch=epoch, why=why)
        self.reads += 1
        if self._rows is None:
            self._rows = Rows(self._data, "test", self._device)
        return self._rows
