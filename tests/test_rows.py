"""Which rows of the source systems' specification have a test: read off the tests' names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

PATCH_MIX = {
    "D": [*range(1, 10), 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 24, 25],
    "F": [1, 2, 3, 4, 5, 15],
    "A": [1, 2, 3, 4, 5, 6, 7, 15, 16],
    "M": [1, 2, 3, 4, 5, 6, 7, 9, 18],
    "L": range(1, 9),
    "T": [1, 2, 6, 7, 9, 11, 12, 13, 14],
    "E": [1, 2, 3, 7, 8],
    "O": [1, 3, 4, 5],
}
"""Rows marked PM, but for D23 (pieces of a cycle), which its code keeps switched off."""

CYCLE_GUARDIAN = {
    "D": [*range(1, 7), 10, 12, 13, 15, 16, 21, 22, 23],
    "F": [6, 7, 8, 9, 15],
    "A": [1, 5, 8, 9, 10],
    "M": [9, 10, 11, 12],
    "L": range(6, 12),
    "T": [1, 3, 8, 11],
    "E": [1, 3, 4, 6],
    "O": [2, 4, 5],
}
"""Rows marked CG."""

BREATHING_PHASE = {
    "F": [12, 13, 15],
    "A": [11, 12, 13],
    "M": [14, 15],
    "L": [12],
    "T": [1, 4, 6, 10, 11, 14],
    "E": [4],
    "N": [2, 3],
    "O": [4, 5, 6],
}
"""Rows marked BP."""

AI_CUP = {
    "F": [10, 11, 15],
    "A": [16],
    "M": [13],
    "L": [1, 14],
    "T": [1, 11],
    "E": [5],
    "N": [1, 3],
    "O": [5],
}
"""Rows marked AI."""

CRNN = {"F": [14], "A": [14], "M": [16], "L": [13], "T": [5], "O": [7]}
"""Rows marked CRNN."""

RESPIRENET = {"M": [17]}
"""Rows marked RespireNet: its trunk and what its second stage trains; its head of two layers is not offered."""


@pytest.mark.parametrize(
    "rows",
    [PATCH_MIX, CYCLE_GUARDIAN, BREATHING_PHASE, AI_CUP, CRNN, RESPIRENET],
    ids=["Patch-Mix", "CycleGuardian", "breathing phase", "AI CUP", "CRNN", "RespireNet"],
)
def test_every_row_of_a_system_is_in_a_tests_name(rows: dict[str, Iterable[int]]) -> None:
    names = {
        row
        for path in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"def test_((?:[A-Z]\d+_)+)", path.read_text())
        for row in name.rstrip("_").split("_")
    }
    wanted = {f"{letter}{number}" for letter, numbers in rows.items() for number in numbers}
    assert not wanted - names
