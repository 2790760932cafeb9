"""What a model says of a cycle that it heard in several pieces: one answer of many."""

from __future__ import annotations

from typing import Literal

import numpy as np

Pieces = Literal["mean", "vote"]
"""How what is said of the pieces of a cycle is put together."""


def vote_of_pieces(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """The vote of the majority (RespireNet's way): ``[pieces, classes]`` to ``[classes]``, and how many agree.

    Each piece votes for its most probable class, and the class with most votes wins; of classes with equally many, the
    one with the larger mean probability over all pieces. The probabilities are the mean over the pieces that voted for
    the winner: they sum to 1, and the winner's is the largest.

    >>> vote_of_pieces(np.array([[0.6, 0.4], [0.55, 0.45], [0.0, 1.0]]))
    (array([0.575, 0.425]), 2)
    """
    votes = rows.argmax(axis=1)
    counts = np.bincount(votes, minlength=rows.shape[1])
    winner = np.where(counts == counts.max(), rows.mean(axis=0), -1.0).argmax()
    return rows[votes == winner].mean(axis=0), int(counts[winner])


def put_together(rows: np.ndarray, pieces: Pieces) -> tuple[np.ndarray, str]:
    """One cycle's probabilities ``[classes]`` of its pieces' ``[pieces, classes]``, and what is to be said of them."""
    if len(rows) == 1:
        return rows[0], ""
    if pieces == "mean":
        return rows.mean(axis=0), f"used in {len(rows)} pieces"
    row, agree = vote_of_pieces(rows)
    return row, f"{agree} of its {len(rows)} pieces agree"
