"""Where a training side's annotated events lie in its features. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.errors import UserError
from feature_store.features import Spec


@dataclass(frozen=True)
class EventFrames:
    """Events that begin within a cycle of the training side, as far as its feature holds them.

    Attributes:
        kinds: ``[events]`` ``crackle`` or ``wheeze``.
        cycles: ``[events]`` position in the training side.
        first, frames: ``[events]`` an event's first frame, and how many it has (at least one).
    """

    kinds: np.ndarray
    cycles: np.ndarray
    first: np.ndarray
    frames: np.ndarray


def locate_events(events: pa.Table, cycles: pa.Table, train: np.ndarray, spec: Spec) -> EventFrames:
    """Find the events of a training side; those of other cycles are never looked at.

    Args:
        events: columns recording, start, end (seconds) and kind.
        cycles: of the feature, in its order.
        train: row numbers of the training side.
        spec: the feature.

    Raises:
        UserError: there is none.
    """
    by_recording: dict[str, list[tuple[float, float, str]]] = {}
    for event in events.to_pylist():
        by_recording.setdefault(event["recording"], []).append((event["start"], event["end"], event["kind"]))
    frames = spec.shape[-2]
    found: list[tuple[str, int, int, int]] = []
    for position, cycle in enumerate(cycles.take(pa.array(train)).to_pylist()):
        begin, end = cycle["start"], cycle["end"]
        if spec.keep == "last":
            begin = max(begin, end - spec.seconds)
        end = min(end, begin + spec.seconds)
        for start, stop, kind in by_recording.get(cycle["recording"], ()):
            if begin <= start < end:
                first = min(int((start - begin) / spec.seconds * frames), frames - 1)
                count = max(1, round((min(stop, end) - start) / spec.seconds * frames))
                found.append((kind, position, first, min(count, frames - first)))
    if not found:
        hint = "put <recording>_events.txt into a folder `events` beside the recordings, and build the feature again"
        raise UserError("no cycle of the training side has an annotated event", where="training.event_scale", hint=hint)
    kinds, *numbers = (np.array(column) for column in zip(*found, strict=True))
    return EventFrames(kinds, *numbers)
