"""What a file system refuses, as an error that a reader can act on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from feature_store.download import FULL
from feature_store.errors import UserError


@contextlib.contextmanager
def disk_errors(where: str | Path, hint: str) -> Iterator[None]:
    """Turn an OSError into a UserError that names the file, or `where` if the error names none.

    A missing file is let through: readers tell by it that there is nothing.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "the disk is full" if error.errno in FULL else f"cannot be read or written: {error.strerror or error}"
        raise UserError(what, where=str(error.filename or where), hint=hint) from error
