"""Ranks, how sure they are, and which entries are tied: all from the same resamples of patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from orchestrator.analysis.bootstrap import LEVEL, interval

CHUNK = 200  # resamples ranked at once
THREADS = 2  # that rank: numpy sorts without the interpreter's lock; more would cost memory


@dataclass(frozen=True)
class Paired:
    """The difference of two Scores over the same resamples.

    Attributes:
        mean: of the Scores themselves, not of the resamples.
        low, high: percentile interval; None where the resamples give none.
        p: two-sided, ``2 (1 + the smaller number of resamples on one side of 0) / (1 + resamples)``, at most 1;
            a difference of exactly 0 is on both sides.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def separable(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class Place:
    """Where an entry stands.

    Attributes:
        rank: 1 plus the entries with a higher Score; equal Scores share one.
        rank_low, rank_high: interval of the rank over the resamples.
        low, high: interval of the Score.
        group: tie group, from 1.
        leader: position of its group's leader; None for the leader itself.
        against: position of the entry that `difference` is to; None for the first.
        difference: to its own group's leader, or, for a leader, to the one before.
    """

    rank: int
    group: int
    rank_low: int | None = None
    rank_high: int | None = None
    low: float | None = None
    high: float | None = None
    leader: int | None = None
    against: int | None = None
    difference: Paired | None = None


def places(scores: Sequence[float], samples: np.ndarray) -> list[Place]:
    """Rank entries that are sorted by Score, best first.

    Tie groups are formed from the top: the first entry leads group 1, and the first one that is separable from its
    group's leader leads the next.

    Args:
        scores: ``[entries]``, falling.
        samples: ``[entries, resamples]`` of `bootstrap.bootstrap`, with the same draws for all.
    """
    defined = _defined(samples)
    bounds = rank_intervals(defined)
    found: list[Place] = []
    leader, group = 0, 1
    for position, score in enumerate(scores):
        before = found[-1] if found else None
        rank = before.rank if before and scores[position - 1] == score else position + 1
        against: int | None = None
        difference: Paired | None = None
        if position:
            against = leader
            difference = paired(score, scores[leader], defined[position], defined[leader])
            if difference.separable:
                leader, group = position, group + 1
        ends = interval(defined[position])
        found.append(
            Place(
                rank=rank,
                group=group,
                rank_low=None if bounds is None else int(bounds[0][position]),
                rank_high=None if bounds is None else int(bounds[1][position]),
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
                leader=None if leader == position else leader,
                against=against,
                difference=difference,
            )
        )
    return found


def paired(score: float, other: float, samples: np.ndarray, others: np.ndarray) -> Paired:
    """Compare two entries resample by resample.

    Args:
        score, other: the two Scores.
        samples, others: ``[resamples]`` each, of the same draws; those that are not defined are left out.
    """
    differences = samples - others
    differences = differences[np.isfinite(differences)]
    ends = interval(differences)
    if ends is None:
        return Paired(score - other)
    beyond = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return Paired(score - other, *ends, p=min(1.0, 2.0 * (1 + int(beyond)) / (1 + len(differences))))


def _defined(samples: np.ndarray) -> np.ndarray:
    """The resamples that give Scores; none where fewer than half of them do."""
    there = np.isfinite(samples[:1]).any(axis=0)
    if there.all():
        return samples
    return samples[:, there] if 2 * there.sum() >= len(there) else samples[:, :0]


def rank_intervals(samples: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray] | None:
    """Best and worst rank ``[entries]`` between which the rank lies in `level` of the resamples.

    Args:
        samples: ``[entries, resamples]``, all finite.
        level: of the interval; its ends are ranks that occurred, the wider ones where a quantile falls between two.

    Returns:
        None where there is no resample.
    """
    entries, resamples = samples.shape
    if not entries or not resamples:
        return None
    ranks = np.empty((entries, resamples), np.uint16 if entries < 2**16 else np.uint32)

    def fill(start: int) -> None:
        ranks[:, start : start + CHUNK] = _ranks(samples[:, start : start + CHUNK].T).T

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(0, resamples, CHUNK)))
    tail = 0.5 * (1.0 - level)
    first, last = math.floor(tail * (resamples - 1)), math.ceil((1.0 - tail) * (resamples - 1))
    ranks.partition([first, last], axis=1)
    return ranks[:, first].astype(np.int64), ranks[:, last].astype(np.int64)


def _ranks(samples: np.ndarray) -> np.ndarray:
    """Rank of each entry in each resample, ``[resamples, entries]``: 1 plus how many are better."""
    falling = -samples
    order = np.argsort(falling, axis=1)
    falling = np.take_along_axis(falling, order, axis=1)
    places = np.zeros(falling.shape, np.int32)
    np.multiply(falling[:, 1:] != falling[:, :-1], np.arange(1, falling.shape[1], dtype=np.int32), out=places[:, 1:])
    np.maximum.accumulate(places, axis=1, out=places)
    ranks = np.empty_like(places)
    np.put_along_axis(ranks, order, places + 1, axis=1)
    return ranks
