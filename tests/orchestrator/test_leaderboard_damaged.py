"""One thing of one result damaged at a time, on real trainings: it is named, and everything else is built as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.settings import Settings
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site.build import write_site
from orchestrator.nightly import run_night
from tests.support.tiny_sweep import TINY_CONFIG
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.results import PREDICTIONS, RESULT, ResultStore

pytestmark = pytest.mark.slow

WRONG = [["such"]]
OF_ANY_KIND = ("epochs", "model")  # of which the ranking needs nothing but the number of parameters
PLAUSIBLE = ("epoch", "auroc")  # other values of which no stored file contradicts


@pytest.fixture(scope="module")
def trained(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[str], str]:
    """A home with three seeds of one config and one of another; the names of the former, and of the latter."""
    settings = replace(Settings.load(tmp_path_factory.mktemp("damaged")), store=Settings.load(small_home).store)
    site = Site(settings.store, settings.results, str(settings.cache), str(settings.weights), device="cpu")
    first, other = (ExperimentConfig.parse({**TINY_CONFIG, "optim": {"lr": lr}}) for lr in (0.001, 0.002))
    seeds = [run_fold(FoldRun(first, "official", 0, seed), site).hash for seed in range(3)]
    return settings, seeds, run_fold(FoldRun(other, "official", 0, 0), site).hash


@pytest.fixture
def home(trained: tuple[Settings, list[str], str], tmp_path: Path) -> tuple[Settings, list[str], str]:
    """The same as a copy of this test's own."""
    settings, seeds, other = trained
    shutil.copytree(settings.results, tmp_path / "home" / "results")
    return replace(Settings.load(tmp_path / "home"), store=settings.store), seeds, other


def build(settings: Settings) -> Leaderboard:
    return build_board(ResultStore.open(settings.results), resamples=20, generated="now")


def ranked(board: Leaderboard) -> set[str]:
    """Results behind a rank."""
    return {name for part in board.boards for table in part.tables for entry in table.entries for name in entry.results}


def named(board: Leaderboard, name: str) -> bool:
    """Whether a result is named with a reason: as left out, or by the note of its entry."""
    if any(problem.result == name and problem.what for problem in board.problems):
        return True
    entries = [entry for part in board.boards for table in part.tables for entry in table.incomplete]
    return any(name in entry.results and name[:12] in str(entry.note) for entry in entries)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, inner ones too."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(item, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def test_every_field_of_a_result_that_holds_something_else(home: tuple[Settings, list[str], str]) -> None:
    settings, (first, *_), other = home
    assert len(ranked(build(settings))) == 4
    path = Path(settings.results) / first[:2] / first / RESULT
    whole, tried = path.read_text(), 0
    for place in leaves(json.loads(whole)):
        if place[0] in OF_ANY_KIND and place[1:] not in ((), ("parameters",)):
            continue
        document = json.loads(whole)
        at(document, place[:-1])[place[-1]] = 1.5 if place[0] in OF_ANY_KIND and not place[1:] else WRONG
        path.write_text(json.dumps(document))
        board = build(settings)
        assert named(board, first), place
        assert first not in ranked(board) and other in ranked(board) and len(ranked(board)) == 3, place
        tried += 1
    assert tried > 100


@pytest.mark.parametrize("wrong", [7.0, float("nan"), float("inf")], ids=["other", "nan", "inf"])
def test_every_number_of_the_test_side_that_is_another(home: tuple[Settings, list[str], str], wrong: float) -> None:
    settings, (first, *_), other = home
    path = Path(settings.results) / first[:2] / first / RESULT
    whole = path.read_text()
    places = [place for place in leaves(json.loads(whole)["protocols"]["last"]) if place[-1] not in PLAUSIBLE]
    for place in places:
        document = json.loads(whole)
        parent = at(document["protocols"]["last"], place[:-1])
        value = parent[place[-1]]
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        parent[place[-1]] = value + (7 if isinstance(value, int) and wrong == 7.0 else wrong)
        path.write_text(json.dumps(document))
        board = build(settings)
        assert named(board, first), place
        assert other in ranked(board), place
        assert "NaN" not in board.model_dump_json() and "Infinity" not in json.dumps(board.model_dump()), place


def columns(table: pa.Table, name: str, values: Callable[[list[Any]], Any]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values(table[name].to_pylist())))


TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no logits": lambda table: table.drop_columns(["logits"]),
    "no patients": lambda table: table.drop_columns(["patient"]),
    "no sides": lambda table: table.drop_columns(["side"]),
    "no rows": lambda table: table.slice(0, 0),
    "half": lambda table: table.take(list(range(0, len(table), 2))),
    "twice": lambda table: pa.concat_tables([table, table]),
    "logits of text": lambda table: columns(table, "logits", lambda rows: ["x"] * len(rows)),
    "logits ragged": lambda table: columns(table, "logits", lambda rows: [rows[0][:1], *rows[1:]]),
    "logits shifted": lambda table: columns(
        table, "logits", lambda rows: [rows[0][:1], rows[1] + [0.0] * 3, *rows[2:]]
    ),
    "logits missing": lambda table: columns(table, "logits", lambda rows: [None, *rows[1:]]),
    "logits of five": lambda table: columns(table, "logits", lambda rows: [[*row, -9.0] for row in rows]),
    "not a number": lambda table: columns(table, "logits", lambda rows: [[float("nan")] * len(row) for row in rows]),
    "label 9": lambda table: columns(table, "label", lambda rows: [9] * len(rows)),
    "label -1": lambda table: columns(table, "label", lambda rows: [-1, *rows[1:]]),
    "label missing": lambda table: columns(table, "label", lambda rows: [None, *rows[1:]]),
    "label of text": lambda table: columns(table, "label", lambda rows: list(map(str, rows))),
    "labels reversed": lambda table: columns(table, "label", lambda rows: rows[::-1]),
    "patients numbers": lambda table: columns(table, "patient", lambda rows: list(map(int, rows))),
    "patient missing": lambda table: columns(table, "patient", lambda rows: [None, *rows[1:]]),
    "patients renamed": lambda table: columns(table, "patient", lambda rows: [f"9{name}" for name in rows]),
    "one patient": lambda table: columns(table, "patient", lambda rows: ["101"] * len(rows)),
    "cycles renamed": lambda table: columns(table, "cycle_id", lambda rows: [f"x{name}" for name in rows]),
    "cycles numbers": lambda table: columns(table, "cycle_id", lambda rows: list(range(len(rows)))),
    "protocol unknown": lambda table: columns(table, "protocol", lambda rows: ["best"] * len(rows)),
    "sides numbers": lambda table: columns(table, "side", lambda rows: [1] * len(rows)),
}


@pytest.mark.parametrize("damage", TABLES)
def test_predictions_that_hold_something_else(home: tuple[Settings, list[str], str], damage: str) -> None:
    settings, (first, second, third), other = home
    path = Path(settings.results) / first[:2] / first / PREDICTIONS
    pq.write_table(TABLES[damage](pq.read_table(path)), path)
    board = build(settings)
    assert named(board, first) and other in ranked(board)
    assert first not in ranked(board)
    told = [entry for part in board.boards for table in part.tables for entry in table.incomplete]
    assert {second, third} <= ranked(board) or all(entry.contradicted for entry in told), "the other seeds stay"


def _flipped(content: bytes) -> bytes:
    generator = np.random.default_rng(0)
    flipped = bytearray(content)
    for place in generator.integers(4, len(content) - 8, 40):
        flipped[place] ^= 0xFF
    return bytes(flipped)


BYTES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "flipped": _flipped,
    "no UTF-8": lambda content: b"\xff\xfe" + content,
    "nested": lambda content: b"[" * 100_000,
}


@pytest.mark.parametrize("file", [RESULT, PREDICTIONS])
@pytest.mark.parametrize("damage", BYTES)
def test_a_file_of_a_result_that_is_damaged(home: tuple[Settings, list[str], str], file: str, damage: str) -> None:
    settings, (first, *others), other = home
    path = Path(settings.results) / first[:2] / first / file
    content = BYTES[damage](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    board = build(settings)
    assert named(board, first)
    assert ranked(board) == {*others, other}


def test_a_result_under_another_name(home: tuple[Settings, list[str], str]) -> None:
    settings, (first, *others), other = home
    folder = Path(settings.results) / first[:2] / first
    for wrong in ("f" * 40, "ab" + first[2:]):
        moved = Path(settings.results) / wrong[:2] / wrong
        moved.parent.mkdir(exist_ok=True)
        shutil.copytree(folder, moved)
    shutil.move(folder, Path(settings.results) / "zz" / first)
    board = build(settings)
    assert all(named(board, name) for name in (first, "f" * 40, "ab" + first[2:]))
    assert ranked(board) == {*others, other}


def _other_list(document: dict[str, Any]) -> None:
    document["data"]["recordings_listed"] += 1


def _other_hash(document: dict[str, Any]) -> None:
    document["hash"] = "0" * 40


def _epochs(document: dict[str, Any]) -> None:
    document["epochs"] = [{"epoch": 1, "validation": ["?"], "train_loss": "?"}]


def _config(document: dict[str, Any]) -> None:
    document["config"]["optim"]["lr"] = 0.5


def _both_sides(document: dict[str, Any]) -> None:
    document["data"]["patients_on_both_sides"] = ["101"]


@pytest.mark.parametrize("damage", [_other_hash, _epochs, _config, _both_sides], ids=lambda damage: damage.__name__)
def test_the_site_and_the_night_are_done_whatever_one_result_has(
    home: tuple[Settings, list[str], str], tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    settings, (first, *others), other = home
    path = Path(settings.results) / first[:2] / first / RESULT
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    board, _ = write_site(settings, tmp_path / "site")
    assert named(board, first) and {*others, other} <= ranked(board)
    night = run_night(settings, tmp_path / "site")
    assert first in night.changes.problems and first[:12] in night.report
    pages = [entry.id for part in board.boards for table in part.tables for entry in table.entries]
    assert all((tmp_path / "site" / "entries" / f"{name}.html").exists() for name in pages)


def test_seeds_trained_before_and_after_the_official_list_grew_are_entries_of_their_own(
    home: tuple[Settings, list[str], str], tmp_path: Path
) -> None:
    """Equal in all but the cohort: two entries of one config, whose ids were one."""
    settings, (first, *others), other = home
    path = Path(settings.results) / first[:2] / first / RESULT
    document = json.loads(path.read_text())
    _other_list(document)
    path.write_text(json.dumps(document))
    board, _ = write_site(settings, tmp_path / "site")
    entries = [entry for part in board.boards for table in part.tables for entry in table.entries]
    assert len({entry.id for entry in entries}) == len(entries) == 6, "two protocols, three entries each"
    assert len({part.id for part in board.boards}) == len(board.boards) == 2
    assert ranked(board) == {first, *others, other} and not board.problems
    assert len(list((tmp_path / "site" / "entries").glob("*.html"))) == 6
