"""Results to board: fold runs grouped into entries, entries that may be compared ranked, the search kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from feature_store.errors import UserError
from orchestrator.leaderboard import statistics
from orchestrator.leaderboard.entries import Group, make_entry, pooled_score
from orchestrator.leaderboard.labels import describe_model, describe_objective, differences
from orchestrator.leaderboard.published import DATASET, published_results
from orchestrator.leaderboard.runs import Cohort, PredictionReader, Run, read_runs
from orchestrator.leaderboard.schema import (
    HONEST,
    PROTOCOLS,
    Board,
    Bootstrap,
    Data,
    Entry,
    Leaderboard,
    SearchRow,
    SearchTable,
    Table,
)
from workers.provenance import lungtune_version, now
from workers.results import ResultStore

BEST_TRIALS = 5  # of a model family, in a table of the search
SPLITS = ("official", "official-no-overlap", "official-patient-test", "five-fold")  # the order on the page

Thing = TypeVar("Thing")


def build_board(
    results: ResultStore,
    champion: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    generated: str | None = None,
    resamples: int = statistics.RESAMPLES,
) -> Leaderboard:
    """Everything that the leaderboard shows.

    Args:
        results: the source of truth. Predictions are read only for complete entries and the best trials.
        champion: registered models by config hash: ``{"name", "version", "alias"}``, and ``data_hash`` if known.
        generated: time to write on the board; now if not given.
        resamples: of the bootstrap over patients.
    """
    runs, problems = read_runs(results)
    predictions = PredictionReader(results)
    boards: list[Board] = []
    search: list[SearchTable] = []
    for cohort, of_cohort in sorted(_grouped(runs, lambda run: run.cohort).items(), key=lambda item: _order(item[0])):
        if not cohort.inner:
            boards.append(_board(cohort, of_cohort, predictions, champion or {}, resamples))
            predictions.forget(of_cohort)
    ranked = {(entry.config_hash, t.protocol): entry.id for b in boards for t in b.tables for entry in t.entries}
    for cohort, of_cohort in sorted(_grouped(runs, lambda run: run.cohort).items(), key=lambda item: _order(item[0])):
        if cohort.inner:
            search.extend(_search_tables(cohort, of_cohort, predictions, ranked))
            predictions.forget(of_cohort)
    datasets = {run.cohort.dataset for run in runs}
    return Leaderboard(
        generated=generated or now(),
        lungtune=lungtune_version(),
        results=len(runs),
        bootstrap=Bootstrap(resamples=resamples, seed=statistics.SEED),
        problems=problems,
        boards=boards,
        search=search,
        published=published_results() if DATASET in datasets else [],
    )


# --- boards -----------------------------------------------------------------------------------------------------


def _board(
    cohort: Cohort,
    runs: Sequence[Run],
    predictions: PredictionReader,
    champion: Mapping[str, Mapping[str, Any]],
    resamples: int,
) -> Board:
    tables = []
    cycles = max((total for _, total, _ in _test_sides(cohort, runs)), default=0)
    for protocol in PROTOCOLS:
        groups = _groups(cohort, runs, protocol)
        entries = [make_entry(group, predictions, champion, resamples) for group in groups]
        for entry, group in zip(entries, groups, strict=True):
            tested = max((total for _, total, _ in _test_sides(cohort, group.used)), default=0)
            if group.used and tested < cycles:
                entry.note = f"tested on {tested} of {cycles} cycles"
        if entries:
            tables.append(_table(protocol, entries))
    data = _data(cohort, runs)
    return Board(id=_slug(cohort), data=data, warnings=_warnings(data), tables=tables)


def _table(protocol: str, entries: Sequence[Entry]) -> Table:
    """Rank what is complete; say of the others why they are not ranked."""
    ranked = [entry for entry in entries if entry.numbers is not None and entry.note is None]
    incomplete = [entry for entry in entries if entry.numbers is None or entry.note is not None]
    ranked.sort(key=lambda entry: (-_score(entry), entry.id))
    for position, entry in enumerate(ranked):
        before = ranked[position - 1] if position else None
        entry.rank = before.rank if before and _score(before) == _score(entry) else position + 1
        entry.separable = _separable(entry, ranked[0]) if position else None
    _tell_apart(ranked)
    incomplete.sort(key=lambda entry: (-entry.folds_done, entry.model.label, entry.id))
    return Table(protocol=protocol, honest=protocol in HONEST, entries=ranked, incomplete=incomplete)


def _tell_apart(rows: Sequence[Entry] | Sequence[SearchRow]) -> None:
    """Note in what rows of the same model and objective differ."""
    alike: dict[Any, list[Entry | SearchRow]] = _grouped(rows, lambda row: (row.model.label, row.objective.label))
    for same in alike.values():
        for row, differs in zip(same, differences([row.config for row in same]), strict=True):
            row.differs = differs


def _score(entry: Entry) -> float:
    assert entry.numbers is not None
    return entry.numbers.score.mean


def _separable(entry: Entry, leader: Entry) -> bool:
    """Whether the intervals have no point in common. An entry without an interval is never told apart."""
    assert entry.numbers is not None and leader.numbers is not None
    own, first = entry.numbers.score, leader.numbers.score
    if own.low is None or own.high is None or first.low is None or first.high is None:
        return False
    return not statistics.overlap((own.low, own.high), (first.low, first.high))


# --- the search -------------------------------------------------------------------------------------------------


def _search_tables(
    cohort: Cohort, runs: Sequence[Run], predictions: PredictionReader, ranked: Mapping[tuple[str, str], str]
) -> Iterable[SearchTable]:
    """One table for each honest protocol: the best trials of every model family, on held-out patients."""
    data = _data(cohort, runs)
    for protocol in HONEST:
        groups = _groups(cohort, runs, protocol)
        rows = []
        for family in _grouped(groups, lambda group: str(group.runs[0].config["model"]["name"])).values():
            complete = [group for group in family if group.complete] or family
            complete.sort(key=lambda group: (-_trial_score(group), group.id))
            best = complete[:BEST_TRIALS]
            rows += [_search_row(group, predictions, ranked) for group in best]
        if rows:
            _tell_apart(rows)
            rows.sort(key=lambda row: (row.folds_done < row.folds, -row.score, row.config_hash))
            yield SearchTable(
                id=f"{_slug(cohort)}-{protocol}",
                data=data,
                protocol=protocol,
                trials=len(groups),
                complete=sum(bool(group.complete) for group in groups),
                warnings=_warnings(data),
                rows=rows,
            )


def _trial_score(group: Group) -> float:
    return float(np.mean([group.test(run).icbhi4.score for run in group.used or group.runs]))


def _search_row(
    group: Group,
    predictions: PredictionReader,
    ranked: Mapping[tuple[str, str], str],
) -> SearchRow:
    runs = group.used or group.runs
    first, tests = runs[0], [group.test(run).icbhi4 for run in runs]
    by_fold = _grouped(runs, lambda run: run.key.fold).values()
    fold_means = [float(np.mean([group.test(run).icbhi4.score for run in of_fold])) for of_fold in by_fold]
    try:
        pooled = pooled_score(group, predictions)
    except UserError:  # a trial without its predictions keeps its mean, and shows no pooled Score
        pooled = None
    return SearchRow(
        config_hash=first.key.config_hash,
        data_hash=first.key.data_hash,
        model=describe_model(first.config, first.parameters),
        objective=describe_objective(first.config),
        score=_trial_score(group),
        score_sd=statistics.mean_and_sd(fold_means)[1],
        pooled_score=pooled.mean if pooled else None,
        specificity=float(np.mean([test.specificity for test in tests])),
        sensitivity=float(np.mean([test.sensitivity for test in tests])),
        folds=group.folds,
        folds_done=group.folds if group.complete else group.folds_done,
        seeds=len(group.complete) or len(group.begun),
        config=first.config,
        ranked_as=ranked.get((first.key.config_hash, group.protocol)),
    )


# --- what both share --------------------------------------------------------------------------------------------


def _groups(cohort: Cohort, runs: Sequence[Run], protocol: str) -> list[Group]:
    """Fold runs of the same config, data and code version; in a fixed order."""
    folds = max(cohort.folds, 1 + max(run.key.fold for run in runs))
    scored = [run for run in runs if protocol in run.protocols]
    same = _grouped(scored, lambda run: (run.key.config_hash, run.key.data_hash, run.key.semantics))
    return [Group(same[key], protocol, folds) for key in sorted(same)]


def _test_sides(cohort: Cohort, runs: Sequence[Run]) -> list[tuple[Any, int, int]]:
    """(group, test cycles, test patients) of every config's seed, summed over the folds it has."""
    by_seed = _grouped(runs, lambda run: (run.key.config_hash, run.key.data_hash, run.key.semantics, run.key.seed))
    return [
        (key, sum(run.test_cycles for run in same), sum(run.test_patients for run in same))
        for key, same in sorted(by_seed.items())
    ]


def _data(cohort: Cohort, runs: Sequence[Run]) -> Data:
    sides = _test_sides(cohort, runs)
    return Data(
        dataset=cohort.dataset,
        task=cohort.task,
        split=cohort.split,
        split_hash=cohort.split_hash,
        classes=list(cohort.classes),
        synthetic=cohort.synthetic,
        recordings=cohort.recordings,
        recordings_listed=cohort.recordings_listed,
        test_cycles=max(cycles for _, cycles, _ in sides),
        test_patients=max(patients for _, _, patients in sides),
        patients_on_both_sides=sorted({patient for run in runs for patient in run.both_sides}),
    )


def _warnings(data: Data) -> list[str]:
    """What a reader must know before any number of the board."""
    found = []
    if data.synthetic:
        found.append(
            "Synthetic sounds: these Scores show that everything works, and say nothing about lungs. "
            "Never put them beside published ones."
        )
    elif data.partial:
        found.append(
            f"Partial database: {data.recordings} of {data.recordings_listed} recordings. "
            "Scores on a part must not be compared with published ones as if it were the whole."
        )
    if data.patients_on_both_sides:
        names = " and ".join(data.patients_on_both_sides)
        found.append(f"Patients on both sides of the split: {names}. The split without them is a board of its own.")
    return found


def _order(cohort: Cohort) -> tuple[Any, ...]:
    """Real data before synthetic, the larger part of a database before the smaller, the usual splits first."""
    place = next((i for i, name in enumerate(SPLITS) if cohort.split == name), len(SPLITS))
    return (
        cohort.synthetic,
        cohort.dataset,
        cohort.task,
        place,
        cohort.split,
        -cohort.recordings,
        cohort.split_hash,
        cohort.recordings_listed,
    )


def _slug(cohort: Cohort) -> str:
    """The board's anchor on the page."""
    extent = f"{cohort.recordings}-of-{cohort.recordings_listed}"
    parts = [cohort.dataset, cohort.task, cohort.split, extent, cohort.split_hash[:6]]
    return "-".join([*parts, *(["synthetic"] if cohort.synthetic else [])])


def _grouped(things: Iterable[Thing], key: Callable[[Thing], Any]) -> dict[Any, list[Thing]]:
    groups: dict[Any, list[Thing]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups
