"""Counts of the complete ICBHI 2017 database, to tell a changed annotation, split or fold list from the real one."""

from __future__ import annotations

from feature_store.datasets.base import SideCounts, SideKey

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
