"""Each count has its noun in the singular or the plural: in messages, on the pages, in Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.counted import counted
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.exports import to_markdown
from orchestrator.leaderboard.site.pages import index_page
from orchestrator.nightly.changes import Snapshot, compare
from orchestrator.registry.card.card_markdown import page
from tests.support.leaderboard_results import RECIPES, Side, publish
from tests.support.model_cards import a_card
from workers.results import ResultStore

ROOT = Path(__file__).resolve().parents[2]
NOUNS = (
    "CPUs|GPUs|classes|clips|configs|cycles|days|ensembles|entries|epochs|folds|hours|members|nodes|numbers|patients|problems|"
    "recordings|resamples|results|runs|seeds|sounds|studies|times|trainings|trials|values|windows"
)
BETWEEN = r"(?:(?!(?:all|and|its|of|over|their|with)\b)[a-z-]+ ){0,2}"
PLURAL = re.compile(rf"^ {BETWEEN}({NOUNS})\b")
TEMPLATE = re.compile(rf"\}}\}} {BETWEEN}({NOUNS})\b")
SCRIPT = re.compile(rf"\) \+ \" {BETWEEN}({NOUNS})\b")


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("fold",), "0 folds"),
        (1, ("fold",), "1 fold"),
        (2, ("fold",), "2 folds"),
        (1539, ("cycle",), "1,539 cycles"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("patient is", "patients are"), "1 patient is"),
        (2, ("patient is", "patients are"), "2 patients are"),
        (0.5, ("GPU",), "0.5 GPUs"),
        (1.0, ("GPU",), "1 GPU"),
    ],
)
def test_a_count_and_its_noun(count: float, words: tuple[str, ...], text: str):
    assert counted(count, *words) == text


def spoken(path: Path) -> Iterator[tuple[int, str]]:
    """What follows each value in the f-strings of a module, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    yield after.lineno, str(after.value)


@pytest.mark.slow
def test_no_count_is_put_before_a_plural_by_hand():
    """In the driver's messages, in the page's templates and in its scripts."""
    wrong = []
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        wrong += [f"{path.relative_to(ROOT)}:{line}{text}" for line, text in spoken(path) if PLURAL.match(text)]
    for pattern, kind in ((TEMPLATE, "j2"), (SCRIPT, "js")):
        for path in sorted((ROOT / "orchestrator" / "leaderboard" / "templates").glob(f"*.{kind}")):
            found = enumerate(path.read_text().splitlines(), 1)
            wrong += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in found if pattern.search(text)]
    assert not wrong, "\n".join(["use `feature_store.counted.counted`:", *wrong])


def test_the_search_for_plurals_finds_one(tmp_path: Path):
    (tmp_path / "some.py").write_text('f"{len(folds)} finished folds, {name} folds up"\n')
    assert [bool(PLURAL.match(text)) for _, text in spoken(tmp_path / "some.py")] == [True, True]
    assert TEMPLATE.search("{{ board.results | count }} fold runs") and SCRIPT.search(
        'lungtune.count(3) + " cycles on"'
    )


@pytest.mark.slow
@pytest.mark.parametrize(("entries", "words"), [(2, "The other entry is tied with it."),
                                                (3, "2 of the other 2 entries are tied with it.")])  # fmt: skip
def test_a_leader_is_tied_with_one_entry_or_with_several(tmp_path: Path, entries: int, words: str):
    store = ResultStore.open(str(tmp_path))
    for index in range(entries):
        publish(store, replace(RECIPES[2], lr=0.001 * (index + 1)), Side(patients=5, cycles=40), seeds=[0])
    assert words in " ".join(index_page(build_board(store, resamples=50)).split())


@pytest.mark.parametrize(("seeds", "runs"), [([0], "1 fold run"), ([0, 1], "2 fold runs")])
def test_a_board_of_one_run_and_of_two(tmp_path: Path, seeds: list[int], runs: str):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=seeds)
    board = build_board(store, resamples=50)
    assert f"from {runs}. " in to_markdown(board)
    assert f"<b>{runs[0]}</b>{runs[1:]}</span>" in index_page(board)


@pytest.mark.parametrize(("patients", "words"), [(1, "test cycles of 1 patient"), (2, "test cycles of 2 patients")])
def test_a_card_of_one_patient_and_of_two(patients: int, words: str):
    text = page(a_card().model_copy(update={"test_patients": patients}))
    assert re.search(rf"{words}\b", text)


def test_a_night_of_one_change_and_of_two():
    before = Snapshot(when="2026-01-01")
    one, two = (before.model_copy(update={"failed": dict.fromkeys(names, "out of memory")}) for names in ("a", "ab"))
    assert compare(before, one).summary == "1 failed trial"
    assert compare(before, two).summary == "2 failed trials"
