"""Counts with their noun, in text for people."""

from __future__ import annotations


def counted(count: float, noun: str, plural: str = "") -> str:
    """``1 fold``, ``2 folds``, ``1,539 folds``.

    Args:
        count: how many; a fraction is written as short as it can be.
        noun: for one, also with words around it: ``patient is``.
        plural: for any other count, where it is not the noun and an s.
    """
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun if count == 1 else plural or noun + 's'}"
