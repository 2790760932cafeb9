"""What a loaded file of weights gave to a model, and what not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NAMED_LEFT_OVER = 20


@dataclass
class LoadReport:
    """What became of every key.

    Attributes:
        used: taken as they are.
        adapted: resampled, summed or folded to fit.
        missing: of the model, and not taken from the file: counters that older files lack, or what the config leaves
            untrained. They keep their initial values.
        left_over: in the file, and of no use here (heads of another task, deeper blocks).
    """

    used: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Plain values to store with a result: four counts, and the names that are no routine.

        Of the left-over names, which a head of another task can make many, the first 20.
        """
        counts = {name: len(getattr(self, name)) for name in ("used", "adapted", "missing", "left_over")}
        return {
            "counts": counts,
            "adapted": list(self.adapted),
            "missing": list(self.missing),
            "left_over": self.left_over[:NAMED_LEFT_OVER],
        }
