"""The search's trials on a board of their own: cross-validation inside a training side, the test side asked nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from feature_store.errors import UserError
from orchestrator.analysis import bootstrap
from orchestrator.analysis.groups import Cohort, Group, grouped, groups_of
from orchestrator.analysis.labels import describe_model, describe_objective
from orchestrator.leaderboard.cohorts import data_of, slug, warnings_of
from orchestrator.leaderboard.entries import pooled_score
from orchestrator.leaderboard.result_cache import Kept
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import SearchRow, SearchTable
from orchestrator.leaderboard.tables import tell_apart
from workers.results import HONEST

BEST_TRIALS = 5  # of a model family, in a table of the search


def search_tables(
    cohort: Cohort, runs: Sequence[Run], kept: Kept, ranked: Mapping[tuple[str, str], str]
) -> Iterable[SearchTable]:
    """One table for each honest protocol: the best trials of every model family, on held-out patients."""
    data = data_of(cohort, runs)
    for protocol in HONEST:
        groups = groups_of(cohort, runs, protocol)
        rows = []
        for family in grouped(groups, lambda group: str(group.runs[0].config["model"]["name"])).values():
            complete = [group for group in family if group.complete] or family
            complete.sort(key=lambda group: (-_trial_score(group), group.id))
            best = complete[:BEST_TRIALS]
            rows += [_search_row(group, kept, ranked) for group in best]
        if rows:
            tell_apart(rows, [row.config for row in rows])
            rows.sort(key=lambda row: (row.folds_done < row.folds, -row.score, row.config_hash))
            yield SearchTable(
                id=f"{slug(cohort)}-{protocol}",
                data=data,
                protocol=protocol,
                metric=cohort.metric,
                trials=len(groups),
                complete=sum(bool(group.complete) for group in groups),
                warnings=warnings_of(data),
                rows=rows,
            )


def _trial_score(group: Group[Run]) -> float:
    return float(np.mean([group.test(run).value(group.metric) for run in group.used or group.runs]))


def _search_row(
    group: Group[Run],
    kept: Kept,
    ranked: Mapping[tuple[str, str], str],
) -> SearchRow:
    runs = group.used or group.runs
    first, tests = runs[0], [group.test(run).score_for(group.metric) for run in runs]
    by_fold = grouped(runs, lambda run: run.key.fold).values()
    fold_means = [float(np.mean([group.test(run).value(group.metric) for run in of_fold])) for of_fold in by_fold]
    try:
        pooled = pooled_score([[kept.tally(run.hash, group.protocol) for run in of] for of in group.complete.values()])
    except UserError:  # a trial without its predictions keeps its mean, and shows no pooled Score
        pooled = None
    return SearchRow(
        config_hash=first.key.config_hash,
        data_hash=first.key.data_hash,
        model=describe_model(first.config, first.parameters),
        objective=describe_objective(first.config),
        score=_trial_score(group),
        score_sd=bootstrap.mean_and_sd(fold_means)[1],
        pooled_score=pooled.mean if pooled else None,
        specificity=float(np.mean([test.specificity for test in tests])),
        sensitivity=float(np.mean([test.sensitivity for test in tests])),
        folds=group.folds,
        folds_done=group.folds if group.complete else group.folds_done,
        seeds=len(group.complete) or len(group.started),
        config=first.config,
        ranked_as=ranked.get((first.key.config_hash, group.protocol)),
    )
