"""The board for scripts: every ranked entry as one short row, so that ten thousand load at once.

A page opened as a file may not fetch, so each document is a script that hands its data to `window.lungtune`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from feature_store.metrics import LABELS
from orchestrator.analysis import labels
from orchestrator.leaderboard import tabular
from orchestrator.leaderboard.measures import Measure, heading, mean_of, measures
from orchestrator.leaderboard.schema import Board, BoardDetail, Entry, EntryDetail, Leaderboard, Table
from orchestrator.leaderboard.site import figures

# fmt: off
COLUMNS = (
    "id", "rank", "rank_low", "rank_high", "tied", "group", "colour", "model", "differs", "hash", "badge", "kind",
    "objective", "settings", "score", "sd", "low", "high", "pooled", "specificity", "sensitivity", "icbhi2", "seeds",
    "pretraining", "extra", "parameters", "minutes", "device", "watched", "cycles", "beside",
)
# fmt: on


def table_id(board: Board, table: Table) -> str:
    """The table's anchor on the page."""
    return f"{board.id}-{table.protocol}"


def row(entry: Entry, beside: Sequence[Measure]) -> list[Any]:
    """What the board's page shows of a ranked entry, in the order of `COLUMNS`; `beside` are its further columns."""
    numbers = entry.numbers
    assert numbers is not None
    score = numbers.score
    return [
        entry.id,
        entry.rank,
        entry.rank_low,
        entry.rank_high,
        entry.tied_with is not None,
        entry.group,
        figures.colour(entry.model.family),
        entry.model.label,
        labels.differs(entry),
        entry.config_hash[:8],
        tabular.badge(entry) if entry.registered else "",
        entry.kind,
        entry.objective.label,
        " · ".join(labels.settings(entry)),
        score.mean,
        score.sd,
        score.low,
        score.high,
        mean_of(numbers.pooled_score),
        numbers.specificity.mean,
        numbers.sensitivity.mean,
        numbers.icbhi2_score.mean,
        len(entry.seeds),
        entry.pretraining,
        entry.extra_data,
        entry.model.parameters,
        entry.cost.train_minutes,
        entry.cost.device,
        entry.test_watched,
        entry.cycles_hash,
        {measure.key: measure.of(entry) for measure in beside if measure.key not in COLUMNS},
    ]


def board_script(leaderboard: Leaderboard) -> str:
    """``data/board.js``: all ranked entries, a table each protocol of each board."""
    tables = [_table(board, table) for board in leaderboard.boards for table in board.tables]
    return f"lungtune.take({_json({'columns': COLUMNS, 'tables': tables})});\n"


def _table(board: Board, table: Table) -> dict[str, Any]:
    beside = measures(table.metric, board.data.classes)
    return {
        "id": table_id(board, table),
        "board": board.id,
        "title": tabular.title(board.data),
        "protocol": table.protocol,
        "protocol_name": tabular.PROTOCOL_NAMES[table.protocol],
        "honest": table.honest,
        "metric": table.metric,
        "name": heading(table.metric),
        "label": LABELS[table.metric],
        "measures": [{"key": one.key, "title": one.title, "digits": one.digits} for one in beside],
        "rows": [row(entry, beside) for entry in table.entries],
    }


def entry_script(detail: EntryDetail, resamples: np.ndarray | None) -> str:
    """``entries/<id>.js``: what a comparison needs of an entry.

    Args:
        detail: its document.
        resamples: ``[resamples]`` of the board's bootstrap, shipped as base64 of little-endian float32.
    """
    needed = detail.model_dump(mode="json", include={"config", "predicted", "labels"})
    if resamples is not None:
        needed["resamples"] = base64.b64encode(resamples.astype("<f4").tobytes()).decode()
    return f"lungtune.entries[{_json(detail.id)}]={_json(needed)};\n"


def cycles_script(detail: BoardDetail) -> str:
    """``boards/<id>.js``: the cycles that the strings of the board's entries stand for."""
    return f"lungtune.cycles[{_json(detail.id)}]={_json(detail.model_dump(mode='json', by_alias=True))};\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
