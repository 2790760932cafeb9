"""Ranks, their intervals, paired differences and tie groups against plain loops, scipy and a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.analysis import bootstrap
from orchestrator.analysis.bootstrap import PatientHits
from orchestrator.analysis.ranking import paired, places, rank_intervals

PATIENTS = 25


def some_entries(count: int = 8, seed: int = 0, gain: float = 0.03) -> list[list[PatientHits]]:
    """Entries on one test side, each a little worse than the one before; the best stands first by its Score."""
    generator = np.random.default_rng(seed)
    cycles = generator.integers(4, 30, (PATIENTS, 2))
    ease = generator.normal(0, 0.1, (PATIENTS, 1))
    found = []
    for index in range(count):
        rates = np.clip(np.array([0.7, 0.5]) - gain * index + ease, 0.02, 0.98)
        hits = generator.binomial(cycles, rates)
        counts = np.stack([hits[:, 0], cycles[:, 0], hits[:, 1], cycles[:, 1]], axis=1)
        found.append([PatientHits(tuple(f"{i:03d}" for i in range(PATIENTS)), counts)])
    return sorted(found, key=lambda folds: -folds[0].score)


def placed(entries: list[list[PatientHits]], resamples: int = 2_000):
    return places([folds[0].score for folds in entries], bootstrap.bootstrap(entries, resamples))


def test_ranks_of_resamples_are_scipys():
    samples = np.random.default_rng(0).integers(0, 12, (9, 700)).astype(np.float32)  # many equal Scores
    low, high = rank_intervals(samples)
    ranks = np.stack([stats.rankdata(-column, method="min") for column in samples.T], axis=1)
    for entry in range(9):
        assert low[entry] == np.quantile(ranks[entry], 0.025, method="lower")
        assert high[entry] == np.quantile(ranks[entry], 0.975, method="higher")


def test_rank_intervals_equal_a_plain_loop_over_patients():
    entries = some_entries(5)
    draws = bootstrap.draws(PATIENTS, 300)
    slow = np.empty((5, 300))
    for r, draw in enumerate(draws):
        for e, (hits,) in enumerate(entries):
            sums = [0, 0, 0, 0]
            for row in range(PATIENTS):
                for column in range(4):
                    sums[column] += int(draw[row]) * int(hits.counts[row, column])
            slow[e, r] = 50 * (sums[0] / sums[1] + sums[2] / sums[3])
    ranks = np.stack([stats.rankdata(-column.round(4), method="min") for column in slow.T], axis=1)
    found = placed(entries, 300)
    assert [place.rank_low for place in found] == [np.quantile(row, 0.025, method="lower") for row in ranks]
    assert [place.rank_high for place in found] == [np.quantile(row, 0.975, method="higher") for row in ranks]


def test_paired_interval_agrees_with_scipys():
    first, second = some_entries(2)
    own = placed([first, second], 10_000)[1].difference
    counts = np.stack([first[0].counts, second[0].counts])

    def difference(rows: np.ndarray, axis: int) -> np.ndarray:
        better, worse = (bootstrap.scores(one[rows].sum(axis=-2)) for one in counts)
        return worse - better

    other = stats.bootstrap(
        (np.arange(PATIENTS),), difference, n_resamples=10_000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    assert (own.low, own.high) == pytest.approx((other.low, other.high), abs=0.35)
    assert own.mean == pytest.approx(second[0].score - first[0].score)


def test_pairing_separates_what_overlapping_intervals_do_not():
    """Two entries that differ alike on every patient: hard and easy patients move both."""
    cycles = np.full(PATIENTS, 20)
    hits = np.random.default_rng(1).integers(3, 18, PATIENTS)
    names = tuple(f"{i:03d}" for i in range(PATIENTS))
    better, worse = (
        [PatientHits(names, np.stack([found, cycles, found, cycles], axis=1))] for found in (hits + 1, hits)
    )
    leader, second = placed([better, worse])
    assert second.high > leader.low  # the intervals overlap widely
    assert (second.group, second.leader) == (2, None)
    assert (second.difference.low, second.difference.high) == pytest.approx((-5.0, -5.0), abs=1e-4)
    assert second.difference.p == pytest.approx(2 / 2_001)


def test_groups_are_formed_from_the_top():
    entries = some_entries(12, gain=0.04)
    found = placed(entries)
    samples = bootstrap.bootstrap(entries, 2_000).astype(np.float64)
    leader, group = 0, 1
    for position, place in enumerate(found):
        if position:
            low, high = np.percentile(samples[position] - samples[leader], [2.5, 97.5])
            assert place.against == leader
            assert (place.difference.low, place.difference.high) == pytest.approx((low, high), abs=1e-4)
            if not low <= 0 <= high:
                leader, group = position, group + 1
        assert place.group == group
        assert place.leader == (None if position == leader else leader)
    assert 1 < group < 12


def test_equal_entries_share_their_rank_in_every_resample():
    first, second = some_entries(2)
    found = placed([first, first, second])
    assert [place.rank for place in found] == [1, 1, 3]
    assert (found[0].rank_low, found[0].rank_high) == (found[1].rank_low, found[1].rank_high)
    assert found[1].difference.p == 1.0
    assert (found[1].difference.low, found[1].difference.high, found[1].leader) == (0.0, 0.0, 0)


def test_one_entry_is_first_for_sure():
    (place,) = placed(some_entries(1))
    assert (place.rank, place.rank_low, place.rank_high, place.group, place.difference) == (1, 1, 1, 1, None)


def test_nothing_is_told_apart_without_resamples_that_have_a_score():
    hits = PatientHits(("a", "b"), np.array([[3, 3, 0, 0], [2, 2, 0, 0]]))  # no abnormal cycle
    worse = PatientHits(("a", "b"), np.array([[1, 3, 0, 0], [2, 2, 0, 0]]))
    first, second = placed([[hits], [worse]], 100)
    assert (first.low, first.rank_low, second.rank_high, second.difference.low, second.difference.p) == (None,) * 5
    assert (second.group, second.leader) == (1, 0)


def test_p_of_a_normal_difference_has_its_closed_form():
    generator = np.random.default_rng(3)
    samples = generator.normal(1.5, 1.0, 400_000)
    found = paired(1.5, 0.0, samples, np.zeros(400_000))
    assert found.p == pytest.approx(2 * stats.norm.cdf(-1.5), rel=0.03)
    assert (found.low, found.high) == pytest.approx((1.5 - 1.96, 1.5 + 1.96), abs=0.02)
    assert not found.separable


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_a_rank_lies_in_its_interval_where_resamples_keep_the_order(count: int, seed: int):
    samples = np.sort(np.random.default_rng(seed).normal(0, 1, (count, 1)), axis=0)[::-1] + np.zeros((1, 50))
    low, high = rank_intervals(samples.astype(np.float32))
    assert low.tolist() == high.tolist() == list(range(1, count + 1))
