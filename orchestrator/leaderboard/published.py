"""Published results, as their papers state them: facts to read beside a corpus' boards, never ranked with them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from feature_store.metrics import MEANINGS, Metric
from orchestrator.leaderboard.headings import heading
from orchestrator.leaderboard.schema import Published

FILE = "published_results.csv"
FLAGS: dict[str, dict[str, str]] = {
    "selection": {
        "test_best": "the epoch was chosen on the test side, which flatters ICBHI's Score by about 2 points",
        "last": "no epoch was chosen: the weights after the last one count",
        "validation": "the epoch was chosen on held-out patients or by cross-validation inside the training side",
        "held_out": "the epoch was chosen on a part of the training data, drawn at random with no regard to patients",
        "unknown": "neither the paper nor its code says how the epoch was chosen",
    },
    "split": {
        "official": "the challenge's split by recordings, 539 for training and 381 for testing; two patients are on "
        "both sides",
        "official-patient-test": "whole patients on the test side, 2,873 test cycles: not comparable with official",
        "five-fold": "cross-validation over five folds; the note says where they are not made of patients",
        "random-file": "recordings drawn at random: patients are on both sides, not comparable with official",
        "random": "single clips drawn at random: 388 recordings are on both sides, not comparable with grouped",
        "contest-public": "the contest's public test set, not at hand: never comparable with a split here",
        "contest-private": "the contest's private test set, not at hand: never comparable with a split here",
    },
    "metric": {
        "icbhi4": "an abnormal cycle is hit only by its exact class",
        "icbhi2": "an abnormal cycle is hit by any abnormal class: higher by construction",
        "accuracy": MEANINGS["accuracy"],
        "uar": MEANINGS["uar"],
    },
    "evidence": {
        "primary": "read in the paper, report or code of its authors",
        "secondary": "cited by another paper",
        "disputed": "contradicted by a reconstruction or by its own code; the note says how",
    },
}
TASKS = {"icbhi": "lungsound4", "breathing-phase": "phase2", "aicup-voice": "voice5"}
ABOUT = {
    "icbhi": "Most chose on the test set, few give a deviation, none an interval.",
    "breathing-phase": "The figures on random clips are of the epoch that is best on them. None has an interval.",
    "aicup-voice": "A contest's figures, on recordings that no board here has. None has an interval.",
}


@dataclass(frozen=True)
class Papers:
    """The published results of one corpus, in one metric: what may stand in one table.

    Attributes:
        dataset, task: what was predicted.
        metric: of the first row; all rows' metrics have its name at the head of a column.
        about: what a reader must know of all of them.
        rows: grouped by split and metric, the best first.
    """

    dataset: str
    task: str
    metric: Metric
    about: str
    rows: tuple[Published, ...]


def published_results() -> list[Published]:
    """Every row of the shipped table, grouped by corpus, split and metric, the best first."""
    text = resources.files("orchestrator.leaderboard").joinpath(FILE).read_text(encoding="utf-8")
    rows = [_row(record) for record in csv.DictReader(io.StringIO(text))]
    groups = list(dict.fromkeys(_group(row) for row in rows))
    return sorted(rows, key=lambda row: (groups.index(_group(row)), -row.score, row.method))


def published_beside(ranked: Iterable[tuple[str, Metric]]) -> list[Published]:
    """The rows that may be read beside boards.

    Args:
        ranked: dataset and metric of each board.

    Returns:
        All rows of a corpus of which some row is of its board's metric: a board ranked by icbhi4 shows icbhi2 as well.
    """
    rows, boards = published_results(), set(ranked)
    corpora = {row.dataset for row in rows if (row.dataset, row.metric) in boards}
    return [row for row in rows if row.dataset in corpora]


def flags_of(rows: Sequence[Published]) -> dict[str, dict[str, str]]:
    """Column -> value -> what it means, of the values that the rows have."""
    if not rows:
        return {}
    return {
        column: {value: text for value, text in meanings.items() if value in {getattr(row, column) for row in rows}}
        for column, meanings in FLAGS.items()
    }


def by_corpus(rows: Sequence[Published]) -> list[Papers]:
    """One table a corpus and name of a metric, so that no accuracy stands in a column of Scores."""
    return [
        Papers(dataset, TASKS[dataset], found[0].metric, ABOUT[dataset], tuple(found))
        for (dataset, _), group in itertools.groupby(rows, key=lambda row: (row.dataset, heading(row.metric)))
        if (found := list(group))
    ]


def _group(row: Published) -> tuple[str, str, str]:
    return row.dataset, row.split, row.metric


def _row(record: dict[str, str]) -> Published:
    return Published.model_validate({key: value or None for key, value in record.items()})
