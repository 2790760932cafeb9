"""Two entries compared in a real browser: the interval is Python's, refusals are said, the counts add up."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.analysis.ranking import paired
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import BoardDetail, Entry, EntryDetail, Leaderboard
from orchestrator.leaderboard.site.write import write
from tests.support import chromium
from tests.support.leaderboard_results import LEANING, PHASE, other_metrics, publish, with_folds

pytestmark = pytest.mark.usefixtures("no_problems")

DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    store = with_folds(results)
    other_metrics(results)
    for metric in ("accuracy", "icbhi4"):  # one test side, ranked by two metrics
        publish(store, LEANING[metric == "icbhi4"], replace(PHASE, split="random", metric=metric), seeds=[0])
    board = build_board(store, resamples=500)
    folder = tmp_path_factory.mktemp("site")
    write(board, folder, Details(board, store))
    return folder


@pytest.fixture(scope="module")
def board(site: Path) -> Leaderboard:
    return Leaderboard.model_validate_json((site / "leaderboard.json").read_text())


def ranking(board: Leaderboard, protocol: str, split: str = "official") -> list[Entry]:
    (found,) = [b for b in board.boards if b.data.split == split]
    return next(table for table in found.tables if table.protocol == protocol).entries


def detail(site: Path, entry: Entry) -> EntryDetail:
    return EntryDetail.model_validate_json((site / "entries" / f"{entry.id}.json").read_text())


def compare(browser: chromium.Browser, site: Path, one: str, two: str) -> str:
    """What the page says."""
    browser.open((site / "index.html"), **DESK)  # so that a change of the address alone is a new page
    browser.open((site / "compare.html").as_uri() + f"#{one},{two}", **DESK)
    browser.wait("document.querySelector('#result .sentence, #result .banner')")
    return browser.evaluate("document.querySelector('#result .sentence, #result .banner').textContent")


def in_browser(browser: chromium.Browser, one: Entry, two: Entry) -> dict[str, float]:
    """What the open comparison page computes of two entries whose data it has loaded."""
    return browser.evaluate(
        f"(() => {{ const [a, b] = ['{one.id}', '{two.id}'].map(id => [lungtune.byId.get(id), lungtune.entries[id]]);"
        " return lungtune.paired(a[0].values.score - b[0].values.score, a[1].resamples, b[1].resamples) })()"
    )


def shipped(site: Path, entry: Entry) -> np.ndarray:
    """The resamples in an entry's script."""
    script = (site / "entries" / f"{entry.id}.js").read_text()
    found = json.loads(script.partition("]=")[2].rstrip(";\n"))
    return np.frombuffer(base64.b64decode(found["resamples"]), "<f4")


@pytest.mark.parametrize("split", ["official", "grouped", "four-fold", "inter"])
def test_the_interval_is_the_boards_own_to_the_last_digit(
    browser: chromium.Browser, site: Path, board: Leaderboard, split: str
):
    entries = {entry.id: entry for protocol in ("last", "validation") for entry in ranking(board, protocol, split)}
    compared = [entry for entry in entries.values() if entry.difference is not None]
    assert compared
    for entry in compared:
        assert entry.difference is not None
        compare(browser, site, entry.id, entry.difference.other)
        found = in_browser(browser, entry, entries[entry.difference.other])
        shown = {name: round(found[name], 6) for name in ("mean", "low", "high")}
        assert shown == {name: getattr(entry.difference, name) for name in shown}


@pytest.mark.parametrize("split", ["official", "five-fold"])
def test_pairs_that_the_board_does_not_show_get_the_interval_that_it_would_show(
    browser: chromium.Browser, site: Path, board: Leaderboard, split: str
):
    entries = [*ranking(board, "last", split), *ranking(board, "validation", split)]
    for one, two in list(itertools.combinations(entries, 2))[:6]:
        compare(browser, site, one.id, two.id)
        found = in_browser(browser, one, two)
        samples, others = shipped(site, one), shipped(site, two)
        assert len(samples) == board.bootstrap.resamples
        wanted = paired(one.numbers.score.mean, two.numbers.score.mean, samples, others)
        assert (found["low"], found["high"]) == (wanted.low, wanted.high)
        assert found["mean"] == pytest.approx(wanted.mean, abs=2e-6)  # the file has six digits


def test_resamples_that_lack_a_class_are_left_out_and_too_few_give_no_interval(browser: chromium.Browser, site: Path):
    browser.open(site / "compare.html", **DESK)

    def found(one: list[float], two: list[float]) -> dict[str, float | None]:
        texts = [base64.b64encode(np.array(values, "<f4").tobytes()).decode() for values in (one, two)]
        return browser.evaluate(f"lungtune.paired(0, {json.dumps(texts[0])}, {json.dumps(texts[1])})")

    nan = float("nan")
    one, two = [60.0, nan, 62.5, 61.0], [59.0, nan, 60.0, 61.5]
    wanted = paired(0.0, 0.0, np.array(one, "<f4"), np.array(two, "<f4"))
    assert (found(one, two)["low"], found(one, two)["high"]) == (wanted.low, wanted.high)
    assert found([nan, nan, 60.0], [nan, nan, 59.0])["low"] is None


def test_the_sentence_says_who_is_better_or_that_nothing_shows(browser: chromium.Browser, site: Path):
    browser.open(site / "compare.html", **DESK)

    def said(mean: float, low: float | None, high: float | None) -> str:
        return browser.evaluate(f"lungtune.sentence({json.dumps({'mean': mean, 'low': low, 'high': high})})")

    assert said(2.1, 0.3, 4.0) == "A is better by 2.1 (0.3 to 4.0)."
    assert said(-2.1, -4.0, -0.3) == "B is better by 2.1 (0.3 to 4.0)."
    assert said(1.0, -0.5, 2.5) == "No difference shows: A minus B is +1.0 (−0.5 to +2.5)."
    assert "too small" in said(1.0, None, None)


def test_counts_and_cycles_of_a_comparison_add_up(browser: chromium.Browser, site: Path, board: Leaderboard):
    one, two = ranking(board, "last")[0], ranking(board, "last")[-1]
    said = compare(browser, site, one.id, two.id)
    assert said.startswith("A is better by")
    a, b = detail(site, one), detail(site, two)
    right_a = np.array([p == t for p, t in zip(a.predicted, a.labels, strict=True)])
    right_b = np.array([p == t for p, t in zip(b.predicted, b.labels, strict=True)])
    wanted = [right_a & right_b, right_a & ~right_b, ~right_a & right_b, ~right_a & ~right_b]
    rows = browser.evaluate(
        "[...[...document.querySelectorAll('#result .card')].find(c => c.textContent.startsWith('Where they disagree'))"
        ".querySelector('table').tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    truth = np.array(list(a.labels))
    for number, row in enumerate(rows[:-1]):
        assert row[0] == one.classes[number]
        assert [int(cell) for cell in row[1:]] == [int((mask & (truth == str(number))).sum()) for mask in wanted]
    assert [int(cell) for cell in rows[-1][1:]] == [int(mask.sum()) for mask in wanted]
    cells = browser.evaluate(
        "[...document.querySelectorAll('.confusion')].map(t => [...t.tBodies[0].rows].map(row =>"
        " [...row.cells].slice(1).map(cell => +cell.textContent)))"
    )
    for found, one_of in zip(cells, (a, b), strict=True):
        expected = np.zeros((4, 4), int)
        for t, p in zip(one_of.labels, one_of.predicted, strict=True):
            expected[int(t), int(p)] += 1
        assert found == expected.tolist()
    # The list: only where they differ, by the names of the cycles, and filtered by who is right.
    (official,) = [b.id for b in board.boards if b.data.split == "official"]
    cycles = BoardDetail.model_validate_json((site / "boards" / f"{official}.json").read_text()).cycle_ids
    differ = [name for name, p, q in zip(cycles, a.predicted, b.predicted, strict=True) if p != q]
    listed = "[...document.querySelectorAll('.cycles tbody tr')].map(row => row.cells[0].textContent)"
    assert browser.evaluate(listed) == differ[:50]
    browser.evaluate(
        "(() => { const s = document.getElementById('kind'); s.value = 'b';"
        " s.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )
    only_b = [name for name, hit in zip(cycles, wanted[2], strict=True) if hit]
    assert browser.evaluate(listed) == only_b[:50]
    assert f"of {len(only_b)} cycles" in browser.evaluate("document.querySelector('.cycles .shown').textContent")


def test_what_cannot_be_compared_is_refused_with_the_reason(browser: chromium.Browser, site: Path, board: Leaderboard):
    one, two = ranking(board, "last")[:2]
    habit, folds = ranking(board, "test_best")[0], ranking(board, "last", "five-fold")[0]
    assert "not tested on the same cycles" in compare(browser, site, one.id, folds.id)
    assert "the second chose it on the test side" in compare(browser, site, one.id, habit.id)
    assert "the first chose it on the test side" in compare(browser, site, habit.id, two.id)
    assert "one and the same" in compare(browser, site, one.id, one.id)
    assert "Choose two entries" in compare(browser, site, one.id, "unknown")
    by_accuracy, by_score = (b.tables[0].entries[0] for b in board.boards if b.data.split == "random")
    assert "ranked by different numbers (Accuracy and Score)" in compare(browser, site, by_accuracy.id, by_score.id)
    assert browser.evaluate("document.querySelector('#result .sentence')") is None


def test_the_page_names_the_metric_and_its_numbers(browser: chromium.Browser, site: Path, board: Leaderboard):
    one, two = ranking(board, "last", "four-fold")[:2]
    compare(browser, site, one.id, two.id)
    rows = browser.evaluate(
        "[...document.querySelector('#result table.sides').tBodies[0].rows].map(row =>"
        " [...row.cells].slice(0, 2).map(cell => cell.textContent))"
    )
    assert rows[:5] == [
        ["Rank", str(one.rank)],
        ["UAR", f"{one.numbers.score.mean:.1f}"],
        ["Pooled UAR", f"{one.numbers.pooled_score.mean:.1f}"],
        ["Accuracy", f"{one.numbers.accuracy.mean:.1f}"],
        ["AUROC", f"{one.numbers.auroc.mean:.2f}"],
    ]
    assert [row[0] for row in rows[5:]] == [
        *(f"Recall of {name}" for name in one.classes),
        "Seeds",
        "Pretraining",
        "Parameters",
        "Training minutes",
        "Trained on",
        "Epoch",
    ]
    assert rows[-4][1] == "993 k" and rows[-3][1] == f"{one.cost.train_minutes:.1f}"
    assert "UAR of A minus UAR of B" in browser.evaluate("document.querySelector('#result .verdict').textContent")


def test_two_protocols_of_the_honest_kind_can_be_compared(browser: chromium.Browser, site: Path, board: Leaderboard):
    one = ranking(board, "last")[0]
    same = next(entry for entry in ranking(board, "validation") if entry.config_hash == one.config_hash)
    assert "Choose" not in compare(browser, site, one.id, same.id)
    assert "one config under two protocols" in browser.evaluate("document.getElementById('result').textContent")


def test_another_entry_can_be_chosen_on_the_page(browser: chromium.Browser, site: Path, board: Leaderboard):
    one, two, three = ranking(board, "last")[:3]
    before = compare(browser, site, one.id, two.id)
    browser.evaluate(
        f"(() => {{ const s = document.getElementById('b'); s.value = '{three.id}';"
        " s.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )
    browser.wait(f"location.hash === '#{one.id},{three.id}'")
    browser.wait(f"document.querySelector('#result .sentence').textContent !== {json.dumps(before)}")
    assert browser.evaluate("document.getElementById('b').value") == three.id
