"""Every column of the leaderboard, once: page, script, CSV, Markdown, terminal, comparison and docs loop over them.

`COLUMNS` is the only place to touch for another column; `docs/leaderboard.md` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from feature_store.metrics import LABELS, MEANINGS, has_rates
from orchestrator.analysis.items import Estimate
from orchestrator.analysis.labels import settings
from orchestrator.leaderboard.column_types import Column, EntryRow, Medium, PageView, PerClass, Value, View
from orchestrator.leaderboard.headings import badge, heading
from orchestrator.leaderboard.schema import Board, Numbers, Table
from orchestrator.leaderboard.site import cells
from orchestrator.leaderboard.site.figures import short_count
from orchestrator.markdown import code, text


def csv_columns() -> list[Column]:
    """The columns of the CSV file, in order."""
    return [column for column in COLUMNS if isinstance(column, Column) and column.csv]


def shown_columns(medium: Medium, board: Board, table: Table) -> list[Column]:
    """The columns with which a medium shows a table, in order."""
    shown = [column for column in _single(board.data.classes) if getattr(column, medium) and column.applies(table)]
    for column in list(shown):
        after = getattr(column, medium).after
        if any(other.key in after for other in shown):
            shown.remove(column)
            last = max(place for place, other in enumerate(shown) if other.key in after)
            shown.insert(last + 1, column)
    return shown


def _single(classes: Sequence[str]) -> Iterator[Column]:
    for column in COLUMNS:
        if isinstance(column, PerClass):
            yield from (column.of(index, name) for index, name in enumerate(classes))
        else:
            yield column


# --- values and cells ---


def mean_of(estimate: Estimate | None) -> float | None:
    """An estimate's mean; None where it is not defined."""
    return estimate.mean if estimate else None


def bracket(estimate: Estimate) -> str:
    """The interval, or nothing where it is not defined."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{estimate.low:.1f}, {estimate.high:.1f}]"


def _of_numbers(value: Callable[[Numbers], Value]) -> Callable[[EntryRow], Value]:
    """A value of the metrics; None where the entry has none."""
    return lambda row: value(row.entry.numbers) if row.entry.numbers else None


def _mean(of: Callable[[EntryRow], Estimate | None]) -> Callable[[EntryRow], float | None]:
    """An estimate's mean; None where the entry has no numbers."""
    return lambda row: mean_of(of(row)) if row.entry.numbers else None


def _fixed(value: Callable[[EntryRow], float | None], digits: int = 1, none: str = "–") -> Callable[[EntryRow], str]:
    """A number with some digits after the point; `none` where it is not defined."""

    def cell(row: EntryRow) -> str:
        found = value(row)
        return none if found is None else f"{found:.{digits}f}"

    return cell


def measure(
    key: str,
    name: str,
    meaning: str,
    value: Callable[[EntryRow], float | None],
    *,
    title: str = "",
    page_key: str = "",
    digits: int = 1,
    applies: Callable[[Table], bool],
    after: tuple[str, ...] = (),
    terminal: bool = True,
    csv: bool = True,
) -> Column:
    """A number beside the one that is ranked, in every table for people.

    Args:
        key, meaning, value, applies, csv: as in `Column`.
        name, title: at the head of a column, and where there is room.
        page_key, after: as in `PageView`.
        digits: after the point.
        terminal: whether a terminal has room for it.
    """
    cell = _fixed(value, digits)
    return Column(
        key,
        meaning,
        value,
        page=PageView(name, cell, after, key=page_key, hint=meaning),
        markdown=View(text(name), cell, after),
        terminal=View(name, cell, after) if terminal else None,
        compare=title or name,
        applies=applies,
        csv=csv,
    )


def _recall(index: int, name: str) -> Column:
    return measure(
        f"recall{index}",
        name,
        f"recall of {name}",
        lambda row: row.entry.recall[index],
        title=f"Recall of {name}",
        applies=lambda table: not has_rates(table.metric),
        terminal=False,
        csv=False,
    )


def _score_hint(table: Table) -> str:
    metric = "icbhi4" if table.metric == "icbhi4" else MEANINGS[table.metric]
    return f"{metric}, with its 95 % interval over patients"


def _several_folds(table: Table) -> bool:
    return any(entry.folds > 1 for entry in table.entries)


def _score_cell(row: EntryRow) -> str:
    score = row.numbers.score
    deviation = f" ± {score.sd:.1f}" if score.sd is not None else ""
    return f"**{score.mean:.1f}** {bracket(score)}{deviation}"


def _rank_cell(row: EntryRow) -> str:
    entry = row.entry
    return f"{entry.rank}" + (f" ({entry.rank_low} to {entry.rank_high})" if entry.rank_low is not None else "")


def _interval_cell(row: EntryRow) -> str:
    score = row.numbers.score
    return f"{score.low:.1f}-{score.high:.1f}" if score.low is not None and score.high is not None else ""


def _model_cell(row: EntryRow) -> str:
    marked = f" **{text(badge(row.entry))}**" if row.entry.registered else ""
    return text(row.entry.model.label) + marked


def _pretraining_cell(row: EntryRow) -> str:
    return text(", ".join([row.entry.pretraining or "none", *(f"+ {name}" for name in row.entry.extra_data)]))


def _registered(name: str) -> Callable[[EntryRow], Value]:
    return lambda row: getattr(row.entry.registered, name) if row.entry.registered else None


def _difference(name: str) -> Callable[[EntryRow], Value]:
    return lambda row: getattr(row.entry.difference, name) if row.entry.difference else None


def _without_shared(name: str) -> Callable[[EntryRow], Value]:
    return lambda row: getattr(row.entry.without_shared, name) if row.entry.without_shared else None


COLUMNS: list[Column | PerClass] = [
    Column("dataset", "name of the corpus", lambda row: row.board.data.dataset),
    Column("task", "what is predicted", lambda row: row.board.data.task),
    Column("split", "name of the split", lambda row: row.board.data.split),
    Column("protocol", "how the epoch was chosen: `validation`, `last` or `test_best`", lambda row: row.table.protocol),
    Column("honest", "the test side had no part in that choice", lambda row: row.table.honest),
    Column("metric", "what the table is ranked by, and what `score` is in it", lambda row: row.table.metric),
    Column("id", "of the entry", lambda row: row.entry.id),
    Column(
        "rank",
        "place in the table; empty where the entry is not ranked",
        lambda row: row.entry.rank,
        page=PageView(
            "Rank",
            lambda row: cells.rank(row.entry),
            hint="with its 95 % interval",
            style="rank",
            first="ascending",
        ),
        markdown=View("Rank", _rank_cell),
        terminal=View("", lambda row: f"{row.entry.rank}{'=' if row.entry.tied_with else ''}", number=False),
        compare="Rank",
    ),
    Column("rank_low", "best rank of its 95 % interval", lambda row: row.entry.rank_low),
    Column("rank_high", "worst rank of its 95 % interval", lambda row: row.entry.rank_high),
    Column(
        "group",
        "tie group, from 1",
        lambda row: row.entry.group,
        markdown=View("Group", lambda row: f"{row.entry.group}{'=' if row.entry.tied_with else ''}"),
    ),
    Column("tied_with", "id of its group's leader; empty for the leader", lambda row: row.entry.tied_with),
    Column(
        "difference",
        "paired: its `score` minus that of its group's leader, of a leader to the one before",
        _difference("mean"),
    ),
    Column("difference_low", "lower end of the difference's 95 % interval", _difference("low")),
    Column("difference_high", "upper end of the difference's 95 % interval", _difference("high")),
    Column("difference_p", "two-sided: twice the smaller share of resamples on one side of 0", _difference("p")),
    Column("status", "`ranked` or `incomplete`", lambda row: "ranked" if row.entry.rank else "incomplete"),
    Column("kind", "`model` or `ensemble`", lambda row: row.entry.kind),
    Column("members", "ids of an ensemble's members", lambda row: " ".join(member.id for member in row.entry.members)),
    Column("model_family", "`model.name` of the config", lambda row: row.entry.model.family),
    Column(
        "model",
        "family and size",
        lambda row: row.entry.model.label,
        page=PageView("Model", lambda row: cells.model(row.entry), number=False, style="model", heads_rows=True),
        markdown=View("Model", _model_cell),
        terminal=View("model", lambda row: row.entry.model.label, number=False),
    ),
    Column(
        "objective",
        "`objective.name` of the config; an ensemble's method",
        lambda row: row.entry.objective.name,
        page=PageView(
            "Objective",
            lambda row: cells.objective(row.entry),
            number=False,
            style="objective",
            head_style="objective",
            sort=lambda row: row.entry.objective.label,
        ),
        markdown=View("Objective", lambda row: text(" ".join([row.entry.objective.label, *settings(row.entry)]))),
        terminal=View("objective", lambda row: row.entry.objective.label, number=False),
    ),
    Column(
        "score",
        "the table's metric, percent: mean over folds, then over seeds",
        _mean(lambda row: row.numbers.score),
        page=PageView(
            lambda table: heading(table.metric), lambda row: cells.score(row.numbers.score), hint=_score_hint
        ),
        markdown=View(lambda table: f"{heading(table.metric)} [95 %]", _score_cell),
        terminal=View(lambda table: heading(table.metric), lambda row: f"{row.numbers.score.mean:.1f}"),
        compare=lambda table: heading(table.metric),
    ),
    Column(
        "interval",
        "both ends of the 95 % interval of `score`",
        _interval_cell,
        terminal=View("95 %", _interval_cell),
        csv=False,
    ),
    Column("score_sd", "standard deviation over seeds", _of_numbers(lambda numbers: numbers.score.sd)),
    Column("score_low", "lower end of its 95 % interval", _of_numbers(lambda numbers: numbers.score.low)),
    Column("score_high", "upper end of its 95 % interval", _of_numbers(lambda numbers: numbers.score.high)),
    measure(
        "specificity",
        "Sp",
        "specificity",
        _mean(lambda row: row.numbers.specificity),
        title="Specificity",
        applies=lambda table: has_rates(table.metric),
    ),
    Column("specificity_sd", "standard deviation over seeds", _of_numbers(lambda numbers: numbers.specificity.sd)),
    measure(
        "sensitivity",
        "Se",
        "sensitivity",
        _mean(lambda row: row.numbers.sensitivity),
        title="Sensitivity",
        applies=lambda table: has_rates(table.metric),
    ),
    Column("sensitivity_sd", "standard deviation over seeds", _of_numbers(lambda numbers: numbers.sensitivity.sd)),
    measure(
        "icbhi2_score",
        "icbhi2",
        "Score if any abnormal class counts as a hit",
        _mean(lambda row: row.numbers.icbhi2_score),
        title="icbhi2 Score",
        page_key="icbhi2",
        applies=lambda table: table.metric == "icbhi4",
        terminal=False,
    ),
    Column(
        "icbhi2_sensitivity",
        "sensitivity if any abnormal class counts as a hit",
        _of_numbers(lambda numbers: numbers.icbhi2_sensitivity.mean),
    ),
    measure(
        "uar",
        "UAR",
        MEANINGS["uar"],
        _mean(lambda row: row.numbers.uar),
        applies=lambda table: table.metric == "accuracy",
    ),
    measure(
        "auroc",
        "AUROC",
        "one against the rest, averaged over classes",
        _mean(lambda row: row.numbers.auroc),
        digits=2,
        applies=lambda table: not has_rates(table.metric),
        after=("accuracy",),
    ),
    measure(
        "accuracy",
        "Accuracy",
        MEANINGS["accuracy"],
        _mean(lambda row: row.numbers.accuracy),
        applies=lambda table: table.metric == "uar",
    ),
    PerClass(_recall),
    Column(
        "ece",
        "expected calibration error, percent points",
        _mean(lambda row: row.numbers.ece),
        markdown=View(
            "ECE",
            _fixed(_mean(lambda row: row.numbers.ece), none=""),
            after=("pooled_score", "cycle_weighted_score", "without_shared_score"),
        ),
    ),
    Column(
        "pooled_score",
        "`score` of all folds put together; empty for a split of one fold",
        _mean(lambda row: row.numbers.pooled_score),
        page=PageView(
            "Pooled",
            _fixed(_mean(lambda row: row.numbers.pooled_score)),
            after=("score",),
            key="pooled",
            hint=lambda table: f"{LABELS[table.metric]} of all folds put together",
        ),
        markdown=View("Pooled", _fixed(_mean(lambda row: row.numbers.pooled_score), none="")),
        compare=lambda table: f"Pooled {LABELS[table.metric]}",
        applies=_several_folds,
    ),
    Column(
        "cycle_weighted_score",
        "`score` of the folds weighted by their cycles; empty for a split of one fold",
        lambda row: mean_of(row.entry.cycle_weighted),
        markdown=View("By cycles", _fixed(lambda row: mean_of(row.entry.cycle_weighted), none="")),
        applies=_several_folds,
    ),
    Column(
        "without_shared_score",
        "`score` without the patients on both sides of the split; empty where there are none",
        _without_shared("mean"),
        markdown=View("Without shared", _fixed(lambda row: mean_of(row.entry.without_shared), none="")),
        applies=lambda table: any(entry.without_shared for entry in table.entries),
    ),
    Column("without_shared_low", "lower end of its 95 % interval", _without_shared("low")),
    Column("without_shared_high", "upper end of its 95 % interval", _without_shared("high")),
    Column("folds", "of the split", lambda row: row.entry.folds),
    Column("folds_done", "fewest over the seeds that have a fold", lambda row: row.entry.folds_done),
    Column(
        "seeds",
        "how many have all folds",
        lambda row: len(row.entry.seeds),
        page=PageView("Seeds", lambda row: str(len(row.entry.seeds))),
        markdown=View("Seeds", lambda row: str(len(row.entry.seeds))),
        terminal=View("seeds", lambda row: str(len(row.entry.seeds))),
        compare="Seeds",
    ),
    Column("pretrained", "file of the pretrained weights", lambda row: row.entry.model.pretrained),
    Column(
        "pretraining",
        "corpora of the pretrained weights; empty: from scratch",
        lambda row: row.entry.pretraining,
        page=PageView("Pretraining", lambda row: cells.pretraining(row.entry), number=False, style="wide"),
        markdown=View("Pretraining", _pretraining_cell),
        compare="Pretraining",
    ),
    Column(
        "extra_data",
        "corpora trained on beside the one that is tested, without the pretraining",
        lambda row: ", ".join(row.entry.extra_data),
    ),
    Column(
        "parameters",
        "how many the model has",
        lambda row: row.entry.model.parameters,
        page=PageView("Params", lambda row: short_count(row.entry.model.parameters), first="ascending"),
        markdown=View("Parameters", lambda row: short_count(row.entry.model.parameters)),
        compare="Parameters",
    ),
    Column("feature_id", "kind and hash of the feature's spec", lambda row: row.entry.feature_id),
    Column(
        "training_minutes",
        "training time of all folds, mean over seeds",
        lambda row: round(row.entry.cost.train_minutes, 3),
        page=PageView(
            "Minutes",
            lambda row: cells.minutes(row.entry),
            key="minutes",
            hint="training time of all folds, mean over seeds",
            first="ascending",
            sort=lambda row: row.entry.cost.train_minutes,
        ),
        markdown=View("Minutes", lambda row: f"{row.entry.cost.train_minutes:.1f}"),
        compare="Training minutes",
    ),
    Column(
        "gpu_hours",
        "of all folds, mean over seeds; empty where it was trained on a CPU",
        lambda row: row.entry.cost.gpu_hours,
    ),
    Column("device", "trained on, each distinct device once", lambda row: row.entry.cost.device),
    Column("energy_kwh", "of all folds, mean over seeds, if it was measured", lambda row: row.entry.cost.energy_kwh),
    Column(
        "test_watched",
        "the test side was scored after every epoch",
        lambda row: row.entry.test_watched,
        page=PageView(
            "Watched",
            lambda row: cells.watched(row.entry),
            number=False,
            key="watched",
            hint="whether the test side was scored during training",
            style="",
        ),
        markdown=View("Test watched", lambda row: "yes" if row.entry.test_watched else "no"),
    ),
    Column("test_reads", "most reads of the test side by one training", lambda row: row.entry.test_reads),
    Column("synthetic", "the sounds were made by a program", lambda row: row.board.data.synthetic),
    Column("recordings", "at hand", lambda row: row.board.data.recordings),
    Column("recordings_listed", "of the whole corpus", lambda row: row.board.data.recordings_listed),
    Column("test_cycles", "over all folds", lambda row: row.board.data.test_cycles),
    Column("test_patients", "over all folds", lambda row: row.board.data.test_patients),
    Column(
        "config_hash",
        "of the config; of an ensemble its name",
        lambda row: row.entry.config_hash,
        markdown=View("Config", lambda row: code(row.entry.config_hash[:8])),
        terminal=View("config", lambda row: row.entry.config_hash[:8], after=("objective",), number=False),
    ),
    Column("data_hash", "of the feature's content and the labels", lambda row: row.entry.data_hash),
    Column("split_hash", "of the cycles on both sides", lambda row: row.entry.split_hash),
    Column("semantics", "version of the training's meaning", lambda row: row.entry.semantics),
    Column("git_commit", "of the code", lambda row: " ".join(row.entry.origin.git_commit)),
    Column("lungtune", "version that trained it", lambda row: " ".join(row.entry.origin.lungtune)),
    Column("registered_name", "of the registered model, if there is one", _registered("name")),
    Column("registered_version", "of the registered model", _registered("version")),
    Column("registered_alias", "`champion`, if it is the champion", _registered("alias")),
    Column("note", "why it is not ranked", lambda row: row.entry.note),
]
"""In the order of the CSV file."""
