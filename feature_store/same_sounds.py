"""One sound under two names: recordings whose audio files have the same content, and what that does to a split.

Such recordings leak from training into testing where they are on both sides, whatever their names say; and where
their patients or labels differ, at most one of them is right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from feature_store.datasets.base import Cycle


@dataclass(frozen=True)
class SameSound:
    """Recordings with one content, sorted by name.

    Attributes:
        recordings: their names, two or more.
        patients: of all of them, without repetition, sorted.
        labels_differ: whether their cycles, in time order, have other times or labels.
    """

    recordings: tuple[str, ...]
    patients: tuple[str, ...]
    labels_differ: bool

    def crosses(self, train: Collection[str], test: Collection[str]) -> bool:
        """Whether one of the recordings is trained on and another one is tested."""
        trained = [name for name in self.recordings if name in train]
        return any(name in test and trained and trained != [name] for name in self.recordings)


def same_sounds(cycles: Iterable[Cycle], hashes: Mapping[str, str]) -> list[SameSound]:
    """Groups of recordings with one hash, in the order of their first names.

    Args:
        cycles: of all recordings.
        hashes: content of each recording's audio by its name; recordings that are not in it are left out.
    """
    patients: dict[str, str] = {}
    content: dict[str, list[tuple[Any, ...]]] = {}
    for cycle in cycles:
        patients[cycle.recording] = cycle.patient
        labels = tuple(sorted((task, -1 if label is None else label) for task, label in cycle.labels.items()))
        content.setdefault(cycle.recording, []).append((cycle.start, cycle.end, labels))
    by_hash: dict[str, list[str]] = {}
    for name in sorted(patients.keys() & hashes.keys()):
        by_hash.setdefault(hashes[name], []).append(name)
    return [
        SameSound(
            tuple(names),
            tuple(sorted({patients[name] for name in names})),
            any(sorted(content[name]) != sorted(content[names[0]]) for name in names[1:]),
        )
        for names in by_hash.values()
        if len(names) > 1
    ]


def same_sounds_in(table: pa.Table, task: str) -> list[SameSound]:
    """As `same_sounds`, from a store's table of cycles, by the labels of one task; none in a store without hashes."""
    if "audio_hash" not in table.column_names:
        return []
    columns = ("cycle_id", "recording", "patient", "device", "location", "mode", "start", "end")
    rows: Sequence[tuple[Any, ...]] = list(zip(*(table[name].to_pylist() for name in (*columns, task)), strict=True))
    hashes = dict(zip(table["recording"].to_pylist(), table["audio_hash"].to_pylist(), strict=True))
    fields = ((dict(zip(columns, row, strict=False)), row[-1]) for row in rows)
    return same_sounds((Cycle(**cells, labels={task: label}) for cells, label in fields), hashes)
