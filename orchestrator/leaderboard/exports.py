"""The board's files for programs and notes: JSON and its schemas, CSV, Markdown, and the scripts that pages load.

A page opened as a file may not fetch, so its data come as scripts that hand them to `window.lungtune`.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from feature_store.counted import counted
from feature_store.metrics import LABELS, MEANINGS, USUAL, Metric, has_rates
from orchestrator.analysis.labels import differs, settings
from orchestrator.csv_cells import cell
from orchestrator.leaderboard.column_types import Column, EntryRow, words
from orchestrator.leaderboard.columns import csv_columns, shown_columns
from orchestrator.leaderboard.headings import PROTOCOL_NAMES, PROTOCOL_NOTES, badge, heading, metrics, title
from orchestrator.leaderboard.schema import (
    Board,
    BoardDetail,
    Entry,
    EntryDetail,
    Leaderboard,
    SearchRow,
    SearchTable,
    Table,
)
from orchestrator.leaderboard.site.figures import short_count
from orchestrator.markdown import code, row, text
from search_spaces.overrides import flatten

FACTS = ("id", "hash", "group", "device", "extra", "cycles", "words")
"""What the page's script knows of an entry beside the columns; `words` are found by a search and are in no column."""

# --- JSON ---


def to_json(leaderboard: Leaderboard) -> str:
    """The whole document, as `schema.Leaderboard` describes it."""
    return _line(leaderboard)


def to_entry_json(detail: EntryDetail) -> str:
    """An entry's own document, as `schema.EntryDetail` describes it."""
    return _line(detail)


def to_board_json(detail: BoardDetail) -> str:
    """A board's own document, as `schema.BoardDetail` describes it."""
    return _line(detail)


def to_schema() -> str:
    """JSON Schemas of the three kinds of document."""
    kinds: dict[str, type[BaseModel]] = {
        "leaderboard.json": Leaderboard,
        "entries/<id>.json": EntryDetail,
        "boards/<id>.json": BoardDetail,
    }
    return json.dumps({name: kind.model_json_schema() for name, kind in kinds.items()}, indent=1) + "\n"


def _line(document: BaseModel) -> str:
    return _compact(_rounded(document.model_dump(mode="json", by_alias=True))) + "\n"


def _rounded(value: Any) -> Any:
    """Floats to six digits after the point: enough, and equal on every machine's last bit."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: item if key == "config" else _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- scripts ---


def board_script(leaderboard: Leaderboard) -> str:
    """``data/board.js``: all ranked entries, one table per protocol of each board.

    A row is its `FACTS`, the values of the table's columns to sort by, and their cells as HTML.
    """
    tables = [_script_table(board, table) for board in leaderboard.boards for table in board.tables]
    return f"lungtune.take({_compact({'facts': FACTS, 'tables': tables})});\n"


def entry_script(detail: EntryDetail, resamples: np.ndarray | None) -> str:
    """``entries/<id>.js``: what a comparison needs of an entry.

    Args:
        detail: its document.
        resamples: ``[resamples]`` of the board's bootstrap, shipped as base64 of little-endian float32.
    """
    needed = detail.model_dump(mode="json", include={"predicted", "labels"})
    needed["settings"] = flatten(detail.config)
    if resamples is not None:
        needed["resamples"] = base64.b64encode(resamples.astype("<f4").tobytes()).decode()
    return f"lungtune.entries[{_compact(detail.id)}]={_compact(needed)};\n"


def cycles_script(detail: BoardDetail) -> str:
    """``boards/<id>.js``: the cycles that the strings of the board's entries stand for."""
    return f"lungtune.cycles[{_compact(detail.id)}]={_compact(detail.model_dump(mode='json', by_alias=True))};\n"


def _script_table(board: Board, table: Table) -> dict[str, Any]:
    columns = shown_columns("page", board, table)
    return {
        "id": table_id(board, table),
        "board": board.id,
        "title": title(board.data),
        "protocol": table.protocol,
        "protocol_name": PROTOCOL_NAMES[table.protocol],
        "honest": table.honest,
        "metric": table.metric,
        "name": heading(table.metric),
        "columns": [_script_column(column, table) for column in columns],
        "rows": [_script_row(EntryRow(board, table, entry), columns) for entry in table.entries],
    }


def _script_column(column: Column, table: Table) -> dict[str, Any]:
    assert column.page is not None
    compare = words(column.compare, table)
    return {"key": column.page_key, "kind": column.page.kind, "tags": column.page.tags, "compare": compare}


def _script_row(shown: EntryRow, columns: Sequence[Column]) -> list[list[Any]]:
    entry = shown.entry
    found = " ".join([*settings(entry), *differs(entry), badge(entry)])
    facts = [
        entry.id,
        entry.config_hash[:8],
        entry.group,
        entry.cost.device,
        entry.extra_data,
        entry.cycles_hash,
        found,
    ]
    cells = [column.page.cell(shown) for column in columns if column.page]
    return [facts, [column.sort_value(shown) for column in columns], cells]


def table_id(board: Board, table: Table) -> str:
    """The table's anchor on the page."""
    return f"{board.id}-{table.protocol}"


# --- CSV ---


def to_csv(leaderboard: Leaderboard) -> str:
    """Every entry of every board, ranked and not; headers are the columns' keys. An empty cell means: not defined."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    columns = csv_columns()
    writer.writerow([column.key for column in columns])
    for board in leaderboard.boards:
        for table in board.tables:
            for entry in (*table.entries, *table.incomplete):
                writer.writerow([_cell(column.value(EntryRow(board, table, entry))) for column in columns])
    return sink.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4f}" if isinstance(value, float) else str(cell(value))


# --- Markdown ---


def to_markdown(leaderboard: Leaderboard) -> str:
    """The boards and the search's tables as Markdown."""
    runs = counted(leaderboard.results, "fold run")
    lines = [
        "# lungtune leaderboard",
        "",
        f"Generated {leaderboard.generated} by lungtune {leaderboard.lungtune} from {runs}. "
        f"{_defined(leaderboard)} in percent; in brackets its 95 % interval by a bootstrap over patients "
        f"({counted(leaderboard.bootstrap.resamples, 'resample')}); ± is the deviation over seeds. "
        "Behind the rank stands its 95 % interval over the same resamples. Entries of one group are tied: their paired "
        "difference to the group's first does not exclude 0.",
        "",
    ]
    for board in leaderboard.boards:
        lines += [f"## {text(title(board.data))}", "", *(f"> **{text(warning)}**\n" for warning in board.warnings)]
        for table in board.tables:
            lines += [f"### {PROTOCOL_NAMES[table.protocol]}", "", PROTOCOL_NOTES[table.protocol], ""]
            lines += [*_ranked(board, table), *_incomplete(table.incomplete)]
    for search in leaderboard.search:
        lines += [*_search(search)]
    if not leaderboard.boards and not leaderboard.search:
        lines += ["No results yet. `lungtune demo` or `lungtune sweep SPACE.yaml` makes some.", ""]
    if leaderboard.problems:
        lines += ["## Left out", "", *(f"- {code(p.result)}: {text(p.what)}" for p in leaderboard.problems), ""]
    return "\n".join(lines)


def _defined(leaderboard: Leaderboard) -> str:
    """What is ranked by, each metric once; the usual Score where nothing is."""
    found = metrics(leaderboard) or [USUAL]
    return "; ".join("Score = (Sp + Se) / 2" if m == USUAL else f"{heading(m)} ({MEANINGS[m]})" for m in found)


def _ranked(board: Board, table: Table) -> Iterator[str]:
    views = [column.markdown for column in shown_columns("markdown", board, table) if column.markdown]
    rows = [EntryRow(board, table, entry) for entry in table.entries]
    return _table([words(view.title, table) for view in views], [[view.cell(one) for view in views] for one in rows])


def _incomplete(entries: Sequence[Entry]) -> Iterator[str]:
    if entries:
        yield from ("Not ranked:", "")
        for entry in entries:
            named = text(f"{entry.model.label}, {entry.objective.label}")
            yield f"- {named}, {code(entry.config_hash[:8])}: {text(entry.note or '')}"
        yield ""


def _search(table: SearchTable) -> Iterator[str]:
    yield from (f"## Search: {text(title(table.data))}", "", *(f"> **{text(one)}**\n" for one in table.warnings))
    yield f"{PROTOCOL_NAMES[table.protocol]}. {_complete(table)}. "
    yield from ("Cross-validation inside the training side; never ranked with the boards above.", "")
    rates = ["Sp", "Se"] if has_rates(table.metric) else []
    head = ["Model", "Objective", f"Mean {LABELS[table.metric]}", "Pooled", *rates, "Folds", "Parameters", "Config"]
    yield from _table(head, [_search_cells(trial, table.metric) for trial in table.rows])


def _complete(table: SearchTable) -> str:
    return f"{table.complete:,} of {counted(table.trials, 'trial has all its folds', 'trials have all their folds')}"


def _search_cells(trial: SearchRow, metric: Metric) -> list[str]:
    return [
        text(trial.model.label),
        text(" ".join([trial.objective.label, *settings(trial)])),
        f"**{trial.score:.1f}**" + (f" ± {trial.score_sd:.1f}" if trial.score_sd is not None else ""),
        f"{trial.pooled_score:.1f}" if trial.pooled_score is not None else "",
        *([f"{trial.specificity:.1f}", f"{trial.sensitivity:.1f}"] if has_rates(metric) else []),
        f"{trial.folds_done}/{trial.folds}",
        short_count(trial.model.parameters),
        code(trial.config_hash[:8]),
    ]


def _table(head: Sequence[str], rows: Sequence[list[str]]) -> Iterator[str]:
    yield row(list(head))
    yield row(["---"] * len(head))
    yield from (row(cells) for cells in rows)
    yield ""
