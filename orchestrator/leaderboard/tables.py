"""Entries into a table: what may be ranked, ranks with their intervals, ties, and in what neighbours differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feature_store.metrics import Metric
from orchestrator.analysis import bootstrap
from orchestrator.analysis.groups import grouped
from orchestrator.analysis.items import Estimate
from orchestrator.analysis.labels import differences
from orchestrator.analysis.ranking import places
from orchestrator.leaderboard.entries import Candidate
from orchestrator.leaderboard.schema import Difference, Entry, SearchRow, Table
from workers.results import HONEST

AT_ONCE = 500  # entries whose resamples are in memory together, where no rank needs all of them


def make_table(
    protocol: str, metric: Metric, candidates: Sequence[Candidate], shared: Sequence[str], resamples: int
) -> Table:
    """Rank what is complete; say of the others why they are not ranked."""
    _note_other_cycles(candidates)
    ranked = [one for one in candidates if one.entry.numbers is not None and one.entry.note is None]
    incomplete = [one for one in candidates if one.entry.numbers is None or one.entry.note is not None]
    ranked.sort(key=lambda one: (-_score(one.entry), one.entry.id))
    if ranked:
        _rank(ranked, resamples)
    tell_apart([one.entry for one in ranked], [one.config for one in ranked])
    _intervals([(one.entry.numbers.score, one.folds) for one in incomplete if one.entry.numbers], resamples)
    _intervals(
        [
            (one.entry.without_shared, [fold.without(shared) for fold in one.folds])
            for one in candidates
            if one.entry.without_shared is not None
        ],
        resamples,
    )
    incomplete.sort(key=lambda one: (-one.entry.folds_done, one.entry.model.label, one.entry.id))
    return Table(
        protocol=protocol,
        honest=protocol in HONEST,
        metric=metric,
        entries=[one.entry for one in ranked],
        incomplete=[one.entry for one in incomplete],
    )


def _note_other_cycles(candidates: Sequence[Candidate]) -> None:
    """Scores on other cycles cannot be ranked with the rest: those that most entries were tested on count."""
    open_ones = [one.entry for one in candidates if one.entry.note is None and one.entry.cycles_hash is not None]
    usual = Counter(entry.cycles_hash for entry in open_ones).most_common(1)
    for entry in open_ones:
        if entry.cycles_hash != usual[0][0]:
            entry.note = "tested on other cycles than most entries of this table"


def _rank(ranked: Sequence[Candidate], resamples: int) -> None:
    """Ranks, intervals and ties, all from the same resamples."""
    entries = [one.entry for one in ranked]
    samples = bootstrap.bootstrap([one.folds for one in ranked], resamples)
    for entry, place in zip(entries, places([_score(entry) for entry in entries], samples), strict=True):
        assert entry.numbers is not None
        entry.rank, entry.rank_low, entry.rank_high = place.rank, place.rank_low, place.rank_high
        entry.numbers.score.low, entry.numbers.score.high = place.low, place.high
        entry.group = place.group
        entry.tied_with = None if place.leader is None else entries[place.leader].id
        if place.difference is not None and place.against is not None:
            found = place.difference
            other = entries[place.against].id
            entry.difference = Difference(other=other, mean=found.mean, low=found.low, high=found.high, p=found.p)


def _intervals(estimates: Sequence[tuple[Estimate, Sequence[bootstrap.PatientHits]]], resamples: int) -> None:
    """Fill in the intervals of what is not ranked; without a patient there is none."""
    there = [(found, folds) for found, folds in estimates if folds and all(fold.patients for fold in folds)]
    alike = grouped(there, lambda item: tuple((f.patients, f.cycles.tobytes()) for f in item[1]))
    for same in alike.values():
        for start in range(0, len(same), AT_ONCE):
            part = same[start : start + AT_ONCE]
            for (found, _), sample in zip(
                part, bootstrap.bootstrap([folds for _, folds in part], resamples), strict=True
            ):
                ends = bootstrap.interval(sample)
                if ends:
                    found.low, found.high = ends


def tell_apart(rows: Sequence[Entry] | Sequence[SearchRow], configs: Sequence[Mapping[str, Any]]) -> None:
    """Note in what rows of the same model and objective differ."""
    pairs: Iterable[tuple[Entry | SearchRow, Mapping[str, Any]]] = zip(rows, configs, strict=True)
    alike = grouped(pairs, lambda pair: (pair[0].model.label, pair[0].objective.label))
    for same in alike.values():
        for (row, _), differs in zip(same, differences([config for _, config in same]), strict=True):
            row.differs = differs


def _score(entry: Entry) -> float:
    assert entry.numbers is not None
    return entry.numbers.score.mean
