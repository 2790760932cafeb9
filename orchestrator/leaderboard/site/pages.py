"""The pages: the index, the comparison and one per entry. No network, no inline script, readable without JavaScript."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import yaml

from feature_store.counted import counted
from feature_store.metrics import LABELS, MEANINGS, has_rates
from orchestrator.analysis import labels
from orchestrator.analysis.items import Slice
from orchestrator.leaderboard import headings
from orchestrator.leaderboard.column_types import EntryRow, words
from orchestrator.leaderboard.columns import shown_columns
from orchestrator.leaderboard.exports import table_id
from orchestrator.leaderboard.published import by_corpus
from orchestrator.leaderboard.schema import Board, Entry, EntryDetail, Leaderboard, Table
from orchestrator.leaderboard.site import figures, pareto

FIRST_ROWS = 20  # in the page itself; a script draws the others
SCRIPTS = {
    "index": ("base.js", "sort.js", "figures.js", "ranking.js", "board.js", "papers.js"),
    "compare": ("base.js", "sort.js", "cycles.js", "compare.js"),
    "entry": ("base.js", "sort.js"),
}
ASSETS = ("style.css", "theme.js", *dict.fromkeys(name for names in SCRIPTS.values() for name in names))
DATA = "data/board.js"
BREAKDOWNS = {
    "class": "class",
    "device": "recording device",
    "location": "chest location",
    "sex": "sex",
    "age_group": "age group",
    "patient": "patient",
}
SPLIT_NOTES = {  # by corpus and split
    ("icbhi", "official"): "the challenge's split by recordings: 539 for training, 381 for testing",
    ("icbhi", "official-no-overlap"): "the official split without the training recordings of patients 156 and 218",
    ("icbhi", "official-patient-test"): "whole patients on the test side: 2,873 test cycles",
    ("icbhi", "compat-official-patient-expanded"): "as CycleGuardian ran it: 25 recordings are on both sides",
    (
        "icbhi",
        "five-fold",
    ): "the published five patient folds, very unequal in size: read the pooled Score beside the mean",
}


def assets() -> dict[str, str]:
    """Path in the folder -> content of the styles and scripts."""
    return {f"assets/{name}": _template_text(name) for name in ASSETS}


def index_page(leaderboard: Leaderboard) -> str:
    """``index.html``: figures, the first rows of every ranking, the search, the published table."""
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            root="",
            board=leaderboard,
            scripts=_scripts("index", DATA),
            first_rows=FIRST_ROWS,
            options=_options(leaderboard),
            metrics=headings.metrics(leaderboard),
            histories=figures.champions(leaderboard.champions),
            papers=by_corpus(leaderboard.published),
            forest=figures.forest,
            pareto=pareto.plots,
        )
    )


def compare_page() -> str:
    """``compare.html``: two entries beside each other, chosen in the address."""
    return _environment().get_template("compare.html.j2").render(root="", scripts=_scripts("compare", DATA))


def entry_page(
    board: Board,
    table: Table,
    entry: Entry,
    detail: EntryDetail,
    *,
    names: Mapping[str, str],
    rival: str | None,
    pictures: Mapping[str, str],
    config: str = "",
    run: str | None = None,
) -> str:
    """``entries/<id>.html``.

    Args:
        board, table, entry: the entry, and where it is.
        detail: what only this page shows.
        names: labels of the entries that it names, by id.
        rival: whom it offers to be compared with.
        pictures: path of a spectrogram by cycle, as far as there are any.
        config: what was trained as YAML; empty for an ensemble.
        run: address of its MLflow run.
    """
    return (
        _environment()
        .get_template("entry.html.j2")
        .render(
            root="../",
            scripts=_scripts("entry"),
            board=board,
            table=table,
            entry=entry,
            detail=detail,
            names=names,
            rival=rival,
            pictures=pictures,
            run=run,
            config_text=config,
            reproduce=reproduce(board, entry),
            curve=figures.curves(detail.curves, table.metric),
            loss=figures.losses(detail.curves),
            calibration=figures.reliability(detail.reliability) if detail.reliability else None,
            breakdown_names=BREAKDOWNS,
            breakdown_axis=_breakdown_axis,
            difference=_difference,
            separated=_separated,
        )
    )


def rival(table: Table, entry: Entry) -> str | None:
    """The entry that a reader will want this one compared with: whom it is tied with, else the leader or the second."""
    if entry.rank is None:
        return None
    return entry.tied_with or next((other.id for other in table.entries[:2] if other.id != entry.id), None)


def config_text(config: Mapping[str, Any]) -> str:
    """The config as YAML: what `lungtune train` takes."""
    return yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def reproduce(board: Board, entry: Entry) -> str:
    """The command that trains the entry again; nothing for an ensemble, which is not trained."""
    if entry.kind != "model":
        return ""
    seeds = " ".join(f"--seed {row.seed}" for row in entry.seeds) or "--seed 0"
    return f"lungtune train entries/{entry.id}.yaml --split {board.data.split} {seeds}"


# --- within ---

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.leaderboard"),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        counted=counted,
        short_count=figures.short_count,
        one=lambda value: f"{value:.1f}",
        two=lambda value: f"{value:.2f}",
        colour=figures.colour,
        settings=labels.settings,
        differs=labels.differs,
        breakable=lambda text: text.replace("+", "+\u200b"),
        badge=headings.badge,
        title=headings.title,
    )
    environment.globals.update(
        protocol_names=headings.PROTOCOL_NAMES,
        protocol_notes=headings.PROTOCOL_NOTES,
        split_note=lambda data: SPLIT_NOTES.get((data.dataset, data.split)),
        metric_name=LABELS.__getitem__,
        metric_meaning=MEANINGS.__getitem__,
        heading=headings.heading,
        has_rates=has_rates,
        shown_columns=shown_columns,
        row_of=EntryRow,
        table_id=table_id,
        words=words,
    )
    return environment


def _template_text(name: str) -> str:
    return resources.files("orchestrator.leaderboard").joinpath("templates", name).read_text(encoding="utf-8")


def _scripts(page: str, *data: str) -> list[str]:
    """The page's scripts; its data follow `base.js`, which takes them."""
    first, *others = (f"assets/{name}" for name in SCRIPTS[page])
    return [first, *data, *others]


def _options(leaderboard: Leaderboard) -> dict[str, list[str]]:
    """What the filters offer; nothing where nothing is ranked."""
    entries = [entry for board in leaderboard.boards for table in board.tables for entry in table.entries]
    if not entries:
        return {}
    return {
        "pretraining": _distinct(entry.pretraining or "none" for entry in entries),
        "extra": _distinct(name for entry in entries for name in (entry.extra_data or ["none"])),
        "device": _distinct(entry.cost.device for entry in entries),
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(set(values), key=lambda value: (value == "none", value.lower()))


def _breakdown_axis(slices: Sequence[Slice]) -> figures.Axis:
    """One axis for all intervals of a breakdown."""
    ends = [end for part in slices for end in (part.score, part.recall, part.low, part.high) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
    return figures.Axis(low - 3.0, high + 3.0, ())


def _difference(entry: Entry) -> str:
    """The tie in numbers, behind the name of whom it is tied with."""
    found = entry.difference
    if found is None or found.low is None or found.high is None:
        return ""
    return f": the difference is {found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _separated(entry: Entry, names: Mapping[str, str]) -> str:
    """From which entry this one can be separated, and by how much."""
    found = entry.difference
    if found is None or found.low is None or found.high is None:
        return ""
    other = names.get(found.other, found.other)
    return f"Told apart from {other}: {found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})."
