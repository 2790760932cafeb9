"""Annotated crackles and wheezes within ICBHI recordings: ``events/<recording>_events.txt`` beside the recordings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from feature_store.datasets.base import EVENT_KINDS, Event, Problem
from feature_store.datasets.text_tables import number_of, read_lines
from feature_store.errors import UserError

FOLDER, SUFFIX = "events", "_events.txt"


def read_events(places: Iterable[Path], recordings: Iterable[str]) -> tuple[list[Event], list[Problem]]:
    """The events of recordings, from the first of the places that has a folder `events`.

    A line is start and end in seconds and a kind, between any delimiters. Kinds other than
    crackle and wheeze mark no event, as in CycleGuardian, and an empty file is a recording without one.

    Args:
        places: folders that may hold the folder.
        recordings: names, as files are spelt.
    """
    folder = next((place / FOLDER for place in places if (place / FOLDER).is_dir()), None)
    events: list[Event] = []
    problems: list[Problem] = []
    for name in recordings if folder else ():
        assert folder is not None
        path = folder / f"{name}{SUFFIX}"
        if not path.is_file():
            continue
        try:
            lines = [(number, " ".join(fields).split()) for number, fields in read_lines(path)]  # tabs and blanks mix
        except UserError as error:
            problems.append(Problem("warning", str(path), error.what, "its events are not used"))
            continue
        for number, words in lines:
            event = _event(name, words)
            if isinstance(event, str):
                problems.append(Problem("warning", f"{path}, row {number}", event, "this row is not used"))
            elif event.kind in EVENT_KINDS:
                events.append(event)
    return events, problems


def _event(recording: str, words: list[str]) -> Event | str:
    """A row as an event, or what is wrong with it."""
    if len(words) != 3:
        return f"has {len(words)} columns instead of start, end and kind"
    try:
        start, end = number_of(words[0]), number_of(words[1])
    except ValueError:
        return f"'{words[0]}' and '{words[1]}' are not two times in seconds"
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        return f"an event from {start} to {end} s is none"
    return Event(recording, start, end, words[2].lower())
