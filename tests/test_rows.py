"""Which rows of the source systems' specification have a test: read off the tests' names."""

from __future__ import annotations

import re
from pathlib import Path

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
"""Rows marked PM, but for D23 and E6 (pieces of a cycle and their vote), which its code keeps switched off."""


def test_every_row_of_patch_mix_is_in_a_tests_name() -> None:
    names = {
        row
        for path in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"def test_((?:[A-Z]\d+_)+)", path.read_text())
        for row in name.rstrip("_").split("_")
    }
    wanted = {f"{letter}{number}" for letter, numbers in PATCH_MIX.items() for number in numbers}
    assert not wanted - names
