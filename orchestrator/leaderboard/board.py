"""Results to board: fold runs grouped into entries, entries that may be compared ranked, the search kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.counted import counted
from orchestrator.analysis import bootstrap, breakdowns
from orchestrator.analysis.groups import Cohort, grouped, groups_of
from orchestrator.leaderboard.cohorts import data_of, order, slug, test_sides, warnings_of
from orchestrator.leaderboard.config_entries import config_entry
from orchestrator.leaderboard.ensembles import Ensemble, ensemble_entry, read_ensembles
from orchestrator.leaderboard.published import flags_of, published_beside
from orchestrator.leaderboard.reading import read_runs, unreadable
from orchestrator.leaderboard.result_cache import Kept
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Board, Bootstrap, ChampionChange, Leaderboard, Problem, SearchTable
from orchestrator.leaderboard.search_tables import search_tables
from orchestrator.leaderboard.tables import make_table
from workers.provenance import lungtune_version, now
from workers.results import PROTOCOLS, ResultStore

if TYPE_CHECKING:
    from orchestrator.registry.decision import ChampionRecord


def build_board(
    results: ResultStore,
    champion: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    generated: str | None = None,
    resamples: int = bootstrap.RESAMPLES,
    cache: Path | None = None,
    history: Mapping[str, Sequence[ChampionRecord]] | None = None,
) -> Leaderboard:
    """Everything that the leaderboard shows.

    Args:
        results: the source of truth. Predictions are read only for complete entries and the best trials.
        champion: registered models by config hash: ``{"name", "version", "alias"}``, and ``data_hash`` if known.
        generated: time to write on the board; now if not given.
        resamples: of the bootstrap over patients.
        cache: folder that keeps what was read of the results for the next build; None keeps nothing.
        history: registered model -> its champions, oldest first.
    """
    kept = Kept(results, cache)
    runs, problems = read_runs(results, kept)
    ensembles, left_out = read_ensembles(results, runs)
    boards: list[Board] = []
    search: list[SearchTable] = []
    cohorts = sorted(grouped(runs, lambda run: run.cohort).items(), key=lambda item: order(item[0]))
    for cohort, of_cohort in cohorts:
        if not cohort.inner:
            together = [one for one in ensembles if one.cohort == cohort]
            board, faulty = _board(cohort, of_cohort, together, kept, champion or {}, resamples)
            boards.append(board)
            problems += faulty
    ranked: dict[tuple[str, str], str] = {}  # of a config on several boards the first counts, as for the champions
    for board in boards:
        for table in board.tables:
            for entry in table.entries:
                ranked.setdefault((entry.config_hash, table.protocol), entry.id)
    for cohort, of_cohort in cohorts:
        if cohort.inner:
            search.extend(search_tables(cohort, of_cohort, kept, ranked))
    kept.save()
    problems += [*left_out, *(Problem(result=name, what=error.what) for name, error in kept.failed.items())]
    published = published_beside({(cohort.dataset, cohort.metric) for cohort, _ in cohorts})
    return Leaderboard(
        generated=generated or now(),
        lungtune=lungtune_version(),
        results=len(runs),
        bootstrap=Bootstrap(resamples=resamples, breakdown_resamples=breakdowns.RESAMPLES, seed=bootstrap.SEED),
        problems=sorted({problem.result: problem for problem in problems}.values(), key=lambda one: one.result),
        boards=boards,
        search=search,
        published=published,
        published_flags=flags_of(published),
        champions=_champions(history or {}, boards),
    )


def _board(
    cohort: Cohort,
    runs: Sequence[Run],
    ensembles: Sequence[Ensemble],
    kept: Kept,
    champion: Mapping[str, Mapping[str, Any]],
    resamples: int,
) -> tuple[Board, list[Problem]]:
    """The board of a cohort, and what is left out of it."""
    tables, problems = [], []
    by_protocol = {protocol: groups_of(cohort, runs, protocol) for protocol in PROTOCOLS}
    kept.read_ahead(run.hash for groups in by_protocol.values() for group in groups for run in group.used)
    data = data_of(cohort, [run for run in runs if run.hash not in kept.failed] or runs)
    shared = data.patients_on_both_sides
    for protocol, groups in by_protocol.items():
        candidates = []
        for group in groups:
            try:
                candidate = config_entry(group, kept, champion, shared)
            except Exception as error:  # one entry, whatever is in its results, costs itself alone
                problems += [Problem(result=run.hash, what=unreadable(error)) for run in group.runs]
                continue
            tested = max((total for _, total, _ in test_sides(cohort, group.used)), default=0)
            if group.used and tested < data.test_cycles:
                candidate.entry.note = f"tested on {tested} of {counted(data.test_cycles, 'cycle')}"
            candidates.append(candidate)
        for one in ensembles:
            if one.stored.protocol == protocol:
                try:
                    folds = groups[0].folds if groups else 1
                    candidates.append(ensemble_entry(one, kept.results, folds, shared))
                except Exception as error:
                    problems.append(Problem(result=one.stored.hash, what=unreadable(error)))
        if candidates:
            tables.append(make_table(protocol, cohort.metric, candidates, shared, resamples))
        problems += [problem for candidate in candidates for problem in candidate.problems]
    return Board(id=slug(cohort), data=data, warnings=warnings_of(data), tables=tables), problems


def _champions(history: Mapping[str, Sequence[ChampionRecord]], boards: Sequence[Board]) -> list[ChampionChange]:
    """The registry's history, with the entries that show the same configs: of the first honest table that has one."""
    entries: dict[str, str] = {}
    for board in boards:
        for table in board.tables:
            for entry in (*table.entries, *table.incomplete):
                entries.setdefault(entry.config_hash, entry.id)
    found = [
        ChampionChange(
            model=model,
            version=str(change.version),
            when=change.when,
            reason=change.reason,
            score=change.score,
            metric=change.metric,
            entry=entries.get(change.config_hash),
        )
        for model, changes in history.items()
        for change in changes
    ]
    return sorted(found, key=lambda change: change.when)
