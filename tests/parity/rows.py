"""A row of the table: what is compared, with which original, and how the largest difference is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Missing(Exception):
    """A library or a file that a row needs is not at hand."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        key: by which the command and the table of earlier values know it.
        what: what lungtune computes, and on which input.
        original: the program or library that it is compared with.
        unit: of the difference.
        measure: the largest difference; raises `Missing` where it cannot be found here.
    """

    key: str
    what: str
    original: str
    unit: str
    measure: Callable[[], float]


def library(name: str, install: str) -> ModuleType:
    """A library that lungtune itself does without.

    Raises:
        Missing: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"library {name} (pip install {install})") from error


def data(*parts: str) -> Path:
    """A folder or file of the real data.

    Raises:
        Missing: there is none.
    """
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        raise Missing(f"file ../shared/data/{'/'.join(parts)}")
    return path
