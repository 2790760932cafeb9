"""What is published of the complete ICBHI 2017 database: its official split, and counts that tell a changed list."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from feature_store.datasets.base import SideCounts, SideKey
from feature_store.datasets.text_tables import read_lines

COMPLETE = 920  # recordings

PUBLISHED: dict[SideKey, SideCounts] = {
    ("official", 0, "train"): SideCounts(79, 539, 4142, (2063, 1215, 501, 363)),
    ("official", 0, "test"): SideCounts(49, 381, 2756, (1579, 649, 385, 143)),
    ("five-fold", 0, "test"): SideCounts(26, 512, 3455, (1566, 1198, 349, 342)),
    ("five-fold", 1, "test"): SideCounts(25, 61, 704, (457, 87, 104, 56)),
    ("five-fold", 2, "test"): SideCounts(25, 50, 536, (403, 107, 22, 4)),
    ("five-fold", 3, "test"): SideCounts(25, 99, 759, (441, 81, 205, 32)),
    ("five-fold", 4, "test"): SideCounts(25, 198, 1444, (775, 391, 206, 72)),
}


@cache
def published_split() -> Mapping[str, str]:
    """Side of each of the 920 recordings, in their corrected spelling, as the challenge publishes it.

    Rocha et al. 2019; the list of the database's own page (bhichallenge.med.auth.gr), 539 train and 381 test.
    """
    return {name: side for _, (name, side) in read_lines(Path(__file__).with_name("official_split.txt"))}


def unlike_published(sides: Mapping[str, str]) -> list[str]:
    """Recordings that a list has on the other side than the published one, sorted."""
    published = published_split()
    return sorted(name for name, side in sides.items() if published.get(name, side) != side)
