"""Published results on ICBHI, as their papers state them: facts to read beside the board, never ranked with it."""

from __future__ import annotations

import csv
import io
from importlib import resources

from feature_store.metrics import Metric
from orchestrator.leaderboard.schema import Published

FILE = "published_results.csv"
DATASET = "icbhi"
METRICS = frozenset({"icbhi4", "icbhi2"})  # of which a board ranked by one shows the other as well
FLAGS: dict[str, dict[str, str]] = {
    "selection": {
        "test_best": "the epoch was chosen on the test side, which flatters the Score by about 2 points",
        "last": "no epoch was chosen: the weights after the last one count",
        "validation": "the epoch was chosen on held-out patients or by cross-validation inside the training side",
        "unknown": "neither the paper nor its code says how the epoch was chosen",
    },
    "split": {
        "official": "the challenge's split by recordings, 539 for training and 381 for testing; two patients are on "
        "both sides",
        "official-patient-test": "whole patients on the test side, 2,873 test cycles: not comparable with official",
        "five-fold": "cross-validation over five folds; the note says where they are not made of patients",
        "random-file": "recordings drawn at random: patients are on both sides, not comparable with official",
    },
    "metric": {
        "icbhi4": "an abnormal cycle is hit only by its exact class",
        "icbhi2": "an abnormal cycle is hit by any abnormal class: higher by construction",
    },
    "evidence": {
        "primary": "read in the paper, report or code of its authors",
        "secondary": "cited by another paper",
        "disputed": "contradicted by a reconstruction or by its own code; the note says how",
    },
}


def comparable(dataset: str, metric: Metric) -> bool:
    """Whether the published results may be read beside a board: they are of its corpus and of its metric."""
    return dataset == DATASET and metric in METRICS


def published_results() -> list[Published]:
    """Every row of the shipped table, grouped by split and metric, best Score first."""
    text = resources.files("orchestrator.leaderboard").joinpath(FILE).read_text(encoding="utf-8")
    rows = [_row(record) for record in csv.DictReader(io.StringIO(text))]
    groups = list(dict.fromkeys((row.split, row.metric) for row in rows))
    return sorted(rows, key=lambda row: (groups.index((row.split, row.metric)), -row.score, row.method))


def _row(record: dict[str, str]) -> Published:
    return Published.model_validate({key: value or None for key, value in record.items()})
