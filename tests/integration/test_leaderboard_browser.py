"""The leaderboard's page in a real browser: at desk and phone width, by mouse and by keyboard, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from leaderboard_results import five_fold, realistic

from orchestrator.leaderboard.collect import build_board
from orchestrator.leaderboard.render import PAGE, write
from orchestrator.leaderboard.schema import Leaderboard
from workers.results import ResultStore

pytestmark = pytest.mark.skipif(
    chromium.executable() is None, reason="chromium is not installed (apt-get install chromium)"
)

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SIZES = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
RANKING = "document.querySelector('table.ranking')"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    folder = tmp_path_factory.mktemp("results")
    five_fold(folder)
    return build_board(realistic(folder), resamples=1_000)


@pytest.fixture(scope="module")
def page(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write(board, folder)
    return folder / PAGE


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_problems(browser: chromium.Browser) -> Iterator[None]:
    browser.problems.clear()
    yield
    assert browser.problems == []


@SIZES
def test_loads_nothing_else_and_never_scrolls_sideways(browser: chromium.Browser, page: Path, size: dict[str, int]):
    browser.requests.clear()
    browser.open(page, **size)
    assert browser.evaluate("innerWidth") == size["width"]
    assert browser.evaluate("document.documentElement.scrollWidth") <= size["width"]
    browser.evaluate("document.querySelectorAll('.toggle').forEach(button => button.click())")
    browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= size["width"]
    outside = browser.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]


@SIZES
def test_a_screenshot_is_readable(browser: chromium.Browser, page: Path, tmp_path: Path, size: dict[str, int]):
    browser.open(page, **size)
    browser.screenshot(tmp_path / "page.png", whole=False)
    assert (tmp_path / "page.png").stat().st_size > 20_000  # neither blank nor broken
    smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.childNodes.length"
        " && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11


def column(browser: chromium.Browser, heading: str) -> list[str]:
    """A column's sort values in the first ranking, top to bottom."""
    return browser.evaluate(
        f"(() => {{ const table = {RANKING}, cells = [...table.tHead.rows[0].cells];"
        f" const at = cells.findIndex(cell => cell.textContent.trim() === '{heading}');"
        " return [...table.tBodies].map(body => body.rows[0].cells[at].dataset.value); })()"
    )


def click_heading(browser: chromium.Browser, heading: str) -> str:
    """Click a column's heading; its new aria-sort."""
    return browser.evaluate(
        f"(() => {{ const cell = [...{RANKING}.tHead.rows[0].cells].find(c => c.textContent.trim() === '{heading}');"
        " cell.firstElementChild.click(); return cell.getAttribute('aria-sort'); })()"
    )


def test_columns_sort_up_and_down(browser: chromium.Browser, page: Path, board: Leaderboard):
    browser.open(page, **DESK)
    entries = board.boards[0].tables[0].entries
    assert column(browser, "Rank") == [str(entry.rank) for entry in entries]
    assert click_heading(browser, "Params") == "descending"
    sizes = [int(value) for value in column(browser, "Params")]
    assert sizes == sorted((entry.model.parameters for entry in entries), reverse=True)
    assert click_heading(browser, "Params") == "ascending"
    assert [int(value) for value in column(browser, "Params")] == sizes[::-1]
    assert click_heading(browser, "Model") == "ascending"
    assert column(browser, "Model") == sorted((entry.model.label for entry in entries), key=str.lower)
    assert browser.evaluate(f"{RANKING}.querySelectorAll('[aria-sort=ascending], [aria-sort=descending]').length") == 1
    assert click_heading(browser, "Rank") == "ascending"
    assert column(browser, "Rank") == [str(entry.rank) for entry in entries]


def test_a_row_opens_and_closes_by_keyboard(browser: chromium.Browser, page: Path):
    browser.open(page, **DESK)
    shown = f"{RANKING}.querySelector('.detail').checkVisibility({{contentVisibilityAuto: true}}) && " + (
        f"{RANKING}.querySelector('.confusion').checkVisibility({{contentVisibilityAuto: true}})"
    )
    expanded = "document.activeElement.getAttribute('aria-expanded')"
    for _ in range(80):  # by Tab alone to the first row's button
        browser.press("Tab", code=9)
        if browser.evaluate("document.activeElement.matches('.toggle')"):
            break
    assert browser.evaluate(expanded) == "false"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Enter", code=13, text="\r")
    assert browser.evaluate(expanded) == "true"
    assert browser.evaluate(shown) is True
    browser.press("Escape", code=27)
    assert browser.evaluate(expanded) == "false"
    assert browser.evaluate(f"{RANKING}.querySelector('.detail').hidden") == "until-found"


def test_a_click_on_a_row_opens_it_and_a_link_leads_into_it(browser: chromium.Browser, page: Path, board: Leaderboard):
    browser.open(page, **DESK)
    target = next(row.ranked_as for table in board.search for row in table.rows if row.ranked_as)
    browser.evaluate(f"document.querySelector('a[href=\"#{target}\"]').click()")
    browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.evaluate(f"document.getElementById('{target}').classList.contains('open')") is True
    browser.evaluate(f"document.getElementById('{target}').rows[0].cells[3].click()")
    assert browser.evaluate(f"document.getElementById('{target}').classList.contains('open')") is False


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of ``rgb(r, g, b)``."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(browser: chromium.Browser, page: Path, dark: bool):
    browser.open(page, **DESK, dark=dark)
    pairs = browser.evaluate(
        "(() => { const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;"
        " if (!/, 0\\)|transparent/.test(c)) return c } return 'rgb(255, 255, 255)' };"
        " return ['.about', '.banner', '.tag.good', '.tag.warn', '.model small', '.score', 'thead button', '.big',"
        " '.legend', '.eyebrow'].map(s => { const e = document.querySelector(s);"
        " return [s, getComputedStyle(e).color, ground(e)] }) })()"
    )
    for selector, ink, ground in pairs:
        bright, dim = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (selector, ink, ground)
    assert (luminance(pairs[0][2]) < 0.2) is dark


def test_details_can_be_read_without_javascript(browser: chromium.Browser, page: Path):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, **DESK)
        assert browser.evaluate("document.querySelector('.confusion').getBoundingClientRect().height") > 50
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_an_empty_board_is_a_page_too(browser: chromium.Browser, tmp_path: Path):
    write(build_board(ResultStore.open(str(tmp_path / "none"))), tmp_path / "site")
    browser.open(tmp_path / "site" / PAGE, **PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert "lungtune demo" in browser.evaluate("document.body.innerText")
