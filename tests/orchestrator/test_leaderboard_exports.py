"""CSV and Markdown say what the JSON document says: every row, every cell, in every kind of table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.exports import to_csv, to_markdown
from tests.support.leaderboard_boards import CHAMPION
from tests.support.leaderboard_results import RECIPES, Side, other_metrics, publish, with_folds
from workers.ensembles import build_ensemble
from workers.results import ResultStore

pytestmark = pytest.mark.slow

OF_BOARD = ("dataset", "task", "split", "synthetic", "recordings", "recordings_listed", "test_cycles", "test_patients")
OF_TABLE = ("protocol", "honest", "metric")
OF_ENTRY = {
    "id": "id",
    "rank": "rank",
    "rank_low": "rank_low",
    "rank_high": "rank_high",
    "group": "group",
    "tied_with": "tied_with",
    "difference": "difference.mean",
    "difference_low": "difference.low",
    "difference_high": "difference.high",
    "difference_p": "difference.p",
    "kind": "kind",
    "model_family": "model.family",
    "model": "model.label",
    "objective": "objective.name",
    "score": "numbers.score.mean",
    "score_sd": "numbers.score.sd",
    "score_low": "numbers.score.low",
    "score_high": "numbers.score.high",
    "specificity": "numbers.specificity.mean",
    "specificity_sd": "numbers.specificity.sd",
    "sensitivity": "numbers.sensitivity.mean",
    "sensitivity_sd": "numbers.sensitivity.sd",
    "icbhi2_score": "numbers.icbhi2_score.mean",
    "icbhi2_sensitivity": "numbers.icbhi2_sensitivity.mean",
    "uar": "numbers.uar.mean",
    "auroc": "numbers.auroc.mean",
    "accuracy": "numbers.accuracy.mean",
    "ece": "numbers.ece.mean",
    "pooled_score": "numbers.pooled_score.mean",
    "cycle_weighted_score": "cycle_weighted.mean",
    "without_shared_score": "without_shared.mean",
    "without_shared_low": "without_shared.low",
    "without_shared_high": "without_shared.high",
    "folds": "folds",
    "folds_done": "folds_done",
    "pretrained": "model.pretrained",
    "pretraining": "pretraining",
    "parameters": "model.parameters",
    "feature_id": "feature_id",
    "training_minutes": "cost.train_minutes",
    "gpu_hours": "cost.gpu_hours",
    "device": "cost.device",
    "energy_kwh": "cost.energy_kwh",
    "test_watched": "test_watched",
    "test_reads": "test_reads",
    "config_hash": "config_hash",
    "data_hash": "data_hash",
    "split_hash": "split_hash",
    "semantics": "semantics",
    "registered_name": "registered.name",
    "registered_version": "registered.version",
    "registered_alias": "registered.alias",
    "note": "note",
}
"""Column of the CSV file -> where the JSON document has it; further columns put several values into one cell."""
BESIDE = {
    "icbhi4": {"Sp": "specificity", "Se": "sensitivity", "icbhi2": "icbhi2_score"},
    "uar": {"Accuracy": "accuracy", "AUROC": "auroc"},
    "accuracy": {"UAR": "uar", "AUROC": "auroc"},
    "sprsound": {"Sp": "specificity", "Se": "sensitivity"},
}
"""Metric of a table -> the numbers that its Markdown has beside that metric."""
HEADINGS = {"icbhi4": "Score", "uar": "UAR", "accuracy": "Accuracy", "sprsound": "SPRSound Score"}
SOMETIMES = {
    "Pooled": "numbers.pooled_score.mean",
    "By cycles": "cycle_weighted.mean",
    "Without shared": "without_shared.mean",
}
"""Columns that the Markdown has only where an entry of the table has the value."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    """Boards of four metrics, a config that lacks a fold, and an ensemble."""
    folder = tmp_path_factory.mktemp("results")
    with_folds(folder)
    store = other_metrics(folder)
    hashes = [name for recipe in RECIPES[1:3] for name in publish(store, recipe, Side(), seeds=[7])]
    build_ensemble(store, hashes, method="mean", protocol="last")
    return store


@pytest.fixture(scope="module")
def document(store: ResultStore) -> tuple[Json, str, str]:
    """The document, not rounded, and the same board as CSV and as Markdown."""
    board = build_board(store, CHAMPION, resamples=200)
    return json.loads(board.model_dump_json(by_alias=True)), to_csv(board), to_markdown(board)


def at(path: str, content: Json) -> Any:
    """A value of a document by its dotted path; None where a part of it is null."""
    found: Any = content
    for part in path.split("."):
        found = None if found is None else found[part]
    return found


def as_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def tables(document: Json) -> Iterator[tuple[Json, Json]]:
    for board in document["boards"]:
        yield from ((board["data"], table) for table in board["tables"])


def several(entry: Json) -> dict[str, str]:
    """The columns of an entry that hold several values, or that the document has in another form."""
    return {
        "status": "ranked" if entry["rank"] else "incomplete",
        "members": " ".join(member["id"] for member in entry["members"]),
        "seeds": str(len(entry["seeds"])),
        "extra_data": ", ".join(entry["extra_data"]),
        "git_commit": " ".join(entry["origin"]["git_commit"]),
        "lungtune": " ".join(entry["origin"]["lungtune"]),
    }


def test_every_cell_of_the_csv_is_the_documents(document: tuple[Json, str, str]):
    content, text, _ = document
    rows = list(csv.DictReader(io.StringIO(text)))
    entries = [
        (data, table, entry) for data, table in tables(content) for entry in (*table["entries"], *table["incomplete"])
    ]
    assert len(rows) == len(entries)
    for row, (data, table, entry) in zip(rows, entries, strict=True):
        wanted = {name: as_cell(data[name]) for name in OF_BOARD}
        wanted |= {name: as_cell(table[name]) for name in OF_TABLE}
        wanted |= {name: as_cell(at(path, entry)) for name, path in OF_ENTRY.items()} | several(entry)
        assert row == wanted
    seen = {name: {row[name] for row in rows} for name in rows[0]}
    assert seen["status"] == {"ranked", "incomplete"} and seen["kind"] == {"model", "ensemble"}
    assert seen["metric"] == set(BESIDE) and "champion" in seen["registered_alias"]
    sometimes = ("members", "difference", "score_sd", "pooled_score", "without_shared_score", "pretraining", "note")
    assert all("" in seen[name] and len(seen[name]) > 1 for name in sometimes)


def test_every_ranked_entry_is_a_row_of_its_table_in_the_markdown(document: tuple[Json, str, str]):
    content, _, text = document
    made = iter(markdown_tables(text))
    for data, table in tables(content):
        entries, metric = table["entries"], table["metric"]
        if not entries:
            continue
        classes = data["classes"] if metric in ("uar", "accuracy") else []
        sometimes = {
            name: path for name, path in SOMETIMES.items() if any(at(path, entry) is not None for entry in entries)
        }
        rows = next(made)
        assert len(rows) == len(entries)
        for row, entry in zip(rows, entries, strict=True):
            numbers, score = entry["numbers"], entry["numbers"]["score"]
            deviation = "" if score["sd"] is None else f" ± {score['sd']:.1f}"
            badge = at("registered.alias", entry)
            objective, parameters = row.pop("Objective"), row.pop("Parameters")
            assert objective.startswith(entry["objective"]["label"]) and parameters.endswith((" k", " M"))
            wanted = {
                "Rank": f"{entry['rank']} ({entry['rank_low']} to {entry['rank_high']})",
                "Group": f"{entry['group']}{'=' if entry['tied_with'] else ''}",
                "Model": entry["model"]["label"] + (f" **{badge}**" if badge else ""),
                f"{HEADINGS[metric]} [95 %]": (
                    f"**{score['mean']:.1f}** [{score['low']:.1f}, {score['high']:.1f}]{deviation}"
                ),
                "ECE": one_digit(numbers["ece"]["mean"]),
                "Seeds": str(len(entry["seeds"])),
                "Pretraining": entry["pretraining"] or "none",
                "Minutes": one_digit(entry["cost"]["train_minutes"]),
                "Test watched": "yes" if entry["test_watched"] else "no",
                "Config": f"`{entry['config_hash'][:8]}`",
            }
            for name, key in BESIDE[metric].items():
                wanted[name] = f"{numbers[key]['mean']:.{2 if key == 'auroc' else 1}f}"
            wanted |= {name: one_digit(recall) for name, recall in zip(classes, entry["recall"], strict=False)}
            wanted |= {name: one_digit(at(path, entry)) for name, path in sometimes.items()}
            assert row == wanted
    searches = list(made)
    assert len(searches) == len(content["search"]) > 0
    assert all(set(rows[0]) >= {"Mean Score", "Pooled", "Sp", "Se", "Folds"} for rows in searches)


def one_digit(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def markdown_tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Every table of a Markdown text: its rows by heading; a row of another length than its head is an error."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|"):
            head = cells(line)
            assert set(cells(next(lines))) == {"---"}
            rows = []
            while (line := next(lines, "")).startswith("|"):
                rows.append(dict(zip(head, cells(line), strict=True)))
            yield rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_markdown_says_what_the_numbers_are_of_and_what_is_not_ranked(document: tuple[Json, str, str]):
    content, _, text = document
    assert "199 of 920 recordings" in text
    assert "Score = (Sp + Se) / 2" in text
    assert "Accuracy (share of cycles called by their class)" in text
    left = [entry for _, table in tables(content) for entry in table["incomplete"]]
    lines = text.splitlines()
    for entry in left:
        named = f"- {entry['model']['label']}, {entry['objective']['label']}, `{entry['config_hash'][:8]}`: "
        assert any(line.startswith(named) for line in lines)
    assert any(line.endswith(": 4 of 5 folds done") for line in lines)
