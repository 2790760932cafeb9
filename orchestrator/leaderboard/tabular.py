"""The board as CSV and Markdown: the same rows, for programs and for notes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from feature_store.metrics import LABELS, MEANINGS, USUAL, Metric, has_rates
from orchestrator.analysis.labels import settings
from orchestrator.csv_cells import cell
from orchestrator.leaderboard.measures import heading, mean_of, measures, metrics
from orchestrator.leaderboard.schema import Board, Entry, Estimate, Leaderboard, SearchRow, SearchTable, Table
from orchestrator.leaderboard.site.figures import short_count
from orchestrator.markdown import code, row, text

PROTOCOL_NAMES = {
    "validation": "Epoch chosen on held-out patients",
    "last": "Last epoch",
    "test_best": "Best epoch on the test side",
}
PROTOCOL_NOTES = {
    "validation": "Patients of the training side were held out to choose the epoch; the test side was not asked.",
    "last": "No epoch was chosen: the weights after the last one count.",
    "test_best": "The papers' habit: the epoch was chosen on the test side, which flatters the Score by "
    "about 2 points. Here to be read beside such papers, never ranked with the tables above.",
}
# fmt: off
COLUMNS = [
    "dataset", "task", "split", "protocol", "honest", "metric", "id", "rank", "rank_low", "rank_high", "group",
    "tied_with", "difference", "difference_low", "difference_high", "difference_p", "status", "kind", "members",
    "model_family", "model", "objective", "score", "score_sd", "score_low", "score_high", "specificity",
    "specificity_sd", "sensitivity", "sensitivity_sd", "icbhi2_score", "icbhi2_sensitivity", "uar", "auroc",
    "accuracy", "ece", "pooled_score", "cycle_weighted_score", "without_shared_score", "without_shared_low",
    "without_shared_high", "folds", "folds_done", "seeds", "pretrained", "pretraining", "extra_data", "parameters",
    "feature_id", "training_minutes", "gpu_hours", "device", "energy_kwh", "test_watched", "test_reads", "synthetic",
    "recordings", "recordings_listed", "test_cycles", "test_patients", "config_hash", "data_hash", "split_hash",
    "semantics", "git_commit", "lungtune", "registered_name", "registered_version", "registered_alias", "note",
]
# fmt: on


def to_csv(leaderboard: Leaderboard) -> str:
    """Every entry of every board, ranked and not; headers are `COLUMNS`. An empty cell means: not defined."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for board in leaderboard.boards:
        for table in board.tables:
            for entry in (*table.entries, *table.incomplete):
                writer.writerow({key: _cell(value) for key, value in _record(board, table, entry).items()})
    return sink.getvalue()


def _record(board: Board, table: Table, entry: Entry) -> dict[str, Any]:
    numbers, data, registered = entry.numbers, board.data, entry.registered
    record: dict[str, Any] = {
        "dataset": data.dataset,
        "task": data.task,
        "split": data.split,
        "protocol": table.protocol,
        "honest": table.honest,
        "metric": table.metric,
        "id": entry.id,
        "rank": entry.rank,
        "rank_low": entry.rank_low,
        "rank_high": entry.rank_high,
        "group": entry.group,
        "tied_with": entry.tied_with,
        "status": "ranked" if entry.rank else "incomplete",
        "kind": entry.kind,
        "members": " ".join(member.id for member in entry.members),
        "model_family": entry.model.family,
        "model": entry.model.label,
        "objective": entry.objective.name,
        "folds": entry.folds,
        "folds_done": entry.folds_done,
        "seeds": len(entry.seeds),
        "pretrained": entry.model.pretrained,
        "pretraining": entry.pretraining,
        "extra_data": ", ".join(entry.extra_data),
        "parameters": entry.model.parameters,
        "feature_id": entry.feature_id,
        "training_minutes": round(entry.cost.train_minutes, 3),
        "gpu_hours": entry.cost.gpu_hours,
        "device": entry.cost.device,
        "energy_kwh": entry.cost.energy_kwh,
        "test_watched": entry.test_watched,
        "test_reads": entry.test_reads,
        "synthetic": data.synthetic,
        "recordings": data.recordings,
        "recordings_listed": data.recordings_listed,
        "test_cycles": data.test_cycles,
        "test_patients": data.test_patients,
        "config_hash": entry.config_hash,
        "data_hash": entry.data_hash,
        "split_hash": entry.split_hash,
        "semantics": entry.semantics,
        "git_commit": " ".join(entry.origin.git_commit),
        "lungtune": " ".join(entry.origin.lungtune),
        "registered_name": registered.name if registered else None,
        "registered_version": registered.version if registered else None,
        "registered_alias": registered.alias if registered else None,
        "note": entry.note,
    }
    if numbers:
        score = numbers.score
        record |= {"score": score.mean, "score_sd": score.sd, "score_low": score.low, "score_high": score.high}
        record |= {"specificity": numbers.specificity.mean, "specificity_sd": numbers.specificity.sd}
        record |= {"sensitivity": numbers.sensitivity.mean, "sensitivity_sd": numbers.sensitivity.sd}
        record |= {"icbhi2_score": numbers.icbhi2_score.mean, "icbhi2_sensitivity": numbers.icbhi2_sensitivity.mean}
        record |= {key: mean_of(getattr(numbers, key)) for key in ("uar", "auroc", "accuracy", "ece", "pooled_score")}
    if entry.difference:
        found = entry.difference
        record |= {"difference": found.mean, "difference_low": found.low, "difference_high": found.high}
        record |= {"difference_p": found.p}
    if entry.without_shared:
        rest = entry.without_shared
        record |= {"without_shared_score": rest.mean, "without_shared_low": rest.low, "without_shared_high": rest.high}
    record["cycle_weighted_score"] = mean_of(entry.cycle_weighted)
    return record


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4f}" if isinstance(value, float) else str(cell(value))


def to_markdown(leaderboard: Leaderboard) -> str:
    """The boards and the search's tables as Markdown."""
    lines = [
        "# lungtune leaderboard",
        "",
        f"Generated {leaderboard.generated} by lungtune {leaderboard.lungtune} from {leaderboard.results} fold runs. "
        f"{_defined(leaderboard)} in percent; in brackets its 95 % interval by a bootstrap over patients "
        f"({leaderboard.bootstrap.resamples:,} resamples); ± is the deviation over seeds. "
        "Behind the rank stands its 95 % interval over the same resamples. Entries of one group are tied: their paired "
        "difference to the group's first does not exclude 0.",
        "",
    ]
    for board in leaderboard.boards:
        lines += [f"## {text(title(board.data))}", "", *(f"> **{text(warning)}**\n" for warning in board.warnings)]
        for table in board.tables:
            lines += [f"### {PROTOCOL_NAMES[table.protocol]}", "", PROTOCOL_NOTES[table.protocol], ""]
            lines += [*_ranked(table, board.data.classes), *_incomplete(table.incomplete)]
    for search in leaderboard.search:
        lines += [*_search(search)]
    if not leaderboard.boards and not leaderboard.search:
        lines += ["No results yet. `lungtune demo` or `lungtune sweep SPACE.yaml` makes some.", ""]
    if leaderboard.problems:
        lines += ["## Left out", "", *(f"- {code(p.result)}: {text(p.what)}" for p in leaderboard.problems), ""]
    return "\n".join(lines)


def title(data: Any) -> str:
    """A board's heading."""
    return f"{data.dataset} · {data.task} · {data.split}"


def _defined(leaderboard: Leaderboard) -> str:
    """What is ranked by, each metric once; the usual Score where nothing is."""
    found = metrics(leaderboard) or [USUAL]
    return "; ".join("Score = (Sp + Se) / 2" if m == USUAL else f"{heading(m)} ({MEANINGS[m]})" for m in found)


def _ranked(table: Table, classes: Sequence[str]) -> Iterator[str]:
    beside = measures(table.metric, classes)
    head = [
        "Rank",
        "Group",
        "Model",
        "Objective",
        f"{heading(table.metric)} [95 %]",
        *(text(one.name) for one in beside),
    ]
    pooled = any(entry.folds > 1 for entry in table.entries)
    shared = any(entry.without_shared for entry in table.entries)
    head += ["Pooled", "By cycles"] if pooled else []
    head += ["Without shared"] if shared else []
    head += ["ECE", "Seeds", "Pretraining", "Parameters", "Minutes", "Test watched", "Config"]
    rows = []
    for entry in table.entries:
        numbers = entry.numbers
        assert numbers is not None
        name = text(entry.model.label) + (f" **{text(badge(entry))}**" if entry.registered else "")
        rows.append(
            [
                f"{entry.rank}{_ranks(entry)}",
                f"{entry.group}{'=' if entry.tied_with else ''}",
                name,
                text(" ".join([entry.objective.label, *settings(entry)])),
                f"**{numbers.score.mean:.1f}** {bracket(numbers.score)}{_deviation(numbers.score)}",
                *(one.text(entry) for one in beside),
                *([_one(numbers.pooled_score), _one(entry.cycle_weighted)] if pooled else []),
                *([_one(entry.without_shared)] if shared else []),
                _one(numbers.ece),
                str(len(entry.seeds)),
                text(", ".join([entry.pretraining or "none", *(f"+ {name}" for name in entry.extra_data)])),
                short_count(entry.model.parameters),
                f"{entry.cost.train_minutes:.1f}",
                "yes" if entry.test_watched else "no",
                code(entry.config_hash[:8]),
            ]
        )
    return _table(head, rows)


def _incomplete(entries: Sequence[Entry]) -> Iterator[str]:
    if entries:
        yield from ("Not ranked:", "")
        for entry in entries:
            named = text(f"{entry.model.label}, {entry.objective.label}")
            yield f"- {named}, {code(entry.config_hash[:8])}: {text(entry.note or '')}"
        yield ""


def _search(table: SearchTable) -> Iterator[str]:
    yield from (f"## Search: {text(title(table.data))}", "", *(f"> **{text(one)}**\n" for one in table.warnings))
    yield f"{PROTOCOL_NAMES[table.protocol]}. {table.complete} of {table.trials} trials have all their folds. "
    yield from ("Cross-validation inside the training side; never ranked with the boards above.", "")
    rates = ["Sp", "Se"] if has_rates(table.metric) else []
    head = ["Model", "Objective", f"Mean {LABELS[table.metric]}", "Pooled", *rates, "Folds", "Parameters", "Config"]
    yield from _table(head, [_search_cells(trial, table.metric) for trial in table.rows])


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


def badge(entry: Entry) -> str:
    """``champion``, or the registered version."""
    assert entry.registered is not None
    return entry.registered.alias or f"v{entry.registered.version}"


def bracket(estimate: Estimate) -> str:
    """The interval, or nothing where it is not defined."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{estimate.low:.1f}, {estimate.high:.1f}]"


def _deviation(estimate: Estimate) -> str:
    return f" ± {estimate.sd:.1f}" if estimate.sd is not None else ""


def _one(estimate: Estimate | None) -> str:
    return f"{estimate.mean:.1f}" if estimate else ""


def _ranks(entry: Entry) -> str:
    """The interval of the rank, where it has one."""
    return f" ({entry.rank_low} to {entry.rank_high})" if entry.rank_low is not None else ""


def _table(head: Sequence[str], rows: Sequence[list[str]]) -> Iterator[str]:
    yield row(list(head))
    yield row(["---"] * len(head))
    yield from (row(cells) for cells in rows)
    yield ""
