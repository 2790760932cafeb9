"""Published results on ICBHI, as their papers state them: facts to read beside the board, never ranked with it."""

from __future__ import annotations

import csv
import io
from importlib import resources

from orchestrator.leaderboard.schema import Published

FILE = "published_results.csv"
DATASET = "icbhi"


def published_results() -> list[Published]:
    """Every row of the shipped table, grouped by split and metric, best Score first."""
    text = resources.files("orchestrator.leaderboard").joinpath(FILE).read_text(encoding="utf-8")
    rows = [_row(record) for record in csv.DictReader(io.StringIO(text))]
    groups = list(dict.fromkeys((row.split, row.metric) for row in rows))
    return sorted(rows, key=lambda row: (groups.index((row.split, row.metric)), -row.score, row.method))


def _row(record: dict[str, str]) -> Published:
    renamed = {"split_id": "split", "metric_id": "metric"}
    return Published.model_validate({renamed.get(key, key): value or None for key, value in record.items()})
