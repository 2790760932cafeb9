"""What happens in a sweep, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Something that happened: its kind, and its facts."""

    kind: str
    facts: dict[str, Any]


Watch = Callable[[Progress], None]
