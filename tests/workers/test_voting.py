"""E6: pieces of one cycle put together, by a toy case and by counting again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.voting import put_together, vote_of_pieces


@pytest.mark.spec("E6")
def test_two_pieces_outvote_a_sure_one() -> None:
    rows = np.array([[0.6, 0.4], [0.55, 0.45], [0.05, 0.95]])
    by_vote, said = put_together(rows, "vote")
    assert by_vote == pytest.approx([0.575, 0.425]) and said == "2 of its 3 pieces agree"
    by_mean, said = put_together(rows, "mean")
    assert by_mean == pytest.approx([0.4, 0.6]) and said == "used in 3 pieces"


@pytest.mark.spec("E6")
def test_a_tie_goes_to_the_larger_mean_probability() -> None:
    rows = np.array([[0.5, 0.4, 0.1], [0.0, 0.45, 0.55], [0.6, 0.4, 0.0], [0.1, 0.2, 0.7]])
    probabilities, agree = vote_of_pieces(rows)  # two for the first, two for the last, whose mean is 0.3375 to 0.3
    assert agree == 2
    assert probabilities == pytest.approx([0.05, 0.325, 0.625])
    assert rows.mean(axis=0).argmax() == 1, "which has no vote"


@pytest.mark.slow
@pytest.mark.spec("E6")
@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(2, 5), st.integers(0, 10_000))
def test_the_class_with_most_votes_has_the_largest_probability(pieces: int, classes: int, seed: int) -> None:
    rows = np.random.default_rng(seed).dirichlet(np.full(classes, 0.7), pieces)
    votes = Counter(int(row.argmax()) for row in rows)
    most = max(votes.values())
    winner = max((name for name in votes if votes[name] == most), key=lambda name: rows[:, name].sum())
    probabilities, agree = vote_of_pieces(rows)
    assert probabilities.argmax() == winner and agree == most
    assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.spec("E6")
@pytest.mark.parametrize("pieces", ["mean", "vote"])
def test_one_piece_stays_as_it_is(pieces: str) -> None:
    row = np.array([[0.2, 0.8]])
    found, said = put_together(row, pieces)  # type: ignore[arg-type]
    assert found.tolist() == [0.2, 0.8] and said == ""
