"""The board's files, each written whole or not at all: for programs, for notes and for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from feature_store.errors import UserError
from feature_store.storage import open_storage
from orchestrator.leaderboard import figures, labels, tabular
from orchestrator.leaderboard.schema import Leaderboard, Published

JSON, CSV, MARKDOWN, PAGE = "leaderboard.json", "leaderboard.csv", "leaderboard.md", "index.html"
SPLIT_NOTES = {
    "official": "the challenge's split by recordings: 539 for training, 381 for testing",
    "official-no-overlap": "the official split without the training recordings of patients 156 and 218",
    "official-patient-test": "whole patients on the test side: 2,873 test cycles",
    "five-fold": "the published five patient folds, very unequal in size: read the pooled Score beside the mean",
}


def write(leaderboard: Leaderboard, out: str | Path) -> dict[str, str]:
    """Write all four files, the page last.

    Args:
        leaderboard: what to write.
        out: a folder, made if need be, or ``s3://bucket/prefix``.

    Returns:
        File name -> where it lies.

    Raises:
        UserError: the place cannot be written.
    """
    files = {
        JSON: to_json(leaderboard),
        CSV: tabular.to_csv(leaderboard),
        MARKDOWN: tabular.to_markdown(leaderboard),
        PAGE: to_html(leaderboard),
    }
    try:
        storage = open_storage(str(out))
        for name, text in files.items():
            storage.write(name, text.encode())
    except OSError as error:
        raise UserError(
            f"the leaderboard cannot be written: {error.strerror or error}",
            where=str(out),
            hint="give a folder that you may write to with --out",
        ) from error
    return {name: storage.uri(name) for name in files}


def to_json(leaderboard: Leaderboard) -> str:
    """The whole document, as `schema.Leaderboard` describes it."""
    content = leaderboard.model_dump(mode="json", by_alias=True)
    return json.dumps(_rounded(content), indent=1, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    """Floats to six digits after the point: enough, and equal on every machine's last bit."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: item if key == "config" else _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def to_html(leaderboard: Leaderboard) -> str:
    """The page: one file, no network, readable without JavaScript."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.leaderboard"),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        short_count=figures.short_count,
        one=lambda value: f"{value:.1f}",
        two=lambda value: f"{value:.2f}",
        yaml=lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip(),
        colour=figures.colour,
        settings=labels.settings,
        differs=labels.differs,
        breakable=lambda text: text.replace("+", "+\u200b"),
        badge=tabular.badge,
        title=tabular.title,
    )
    return environment.get_template("index.html.j2").render(
        board=leaderboard,
        forest=figures.forest,
        scatter=figures.scatter,
        curves=figures.curves,
        protocol_names=tabular.PROTOCOL_NAMES,
        protocol_notes=tabular.PROTOCOL_NOTES,
        split_notes=SPLIT_NOTES,
        published=_published_groups(leaderboard.published),
    )


def _published_groups(rows: Sequence[Published]) -> dict[tuple[str, str], list[Published]]:
    groups: dict[tuple[str, str], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.split, row.metric), []).append(row)
    return groups
