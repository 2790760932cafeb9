"""The leaderboard's pages in a real browser: at desk and phone width, by mouse and by keyboard, light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import ChampionChange, Leaderboard
from orchestrator.leaderboard.site.write import PAGE, write
from tests.support import chromium
from tests.support.leaderboard_results import with_folds
from workers.results import ResultStore

pytestmark = pytest.mark.usefixtures("no_problems")

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SIZES = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
PAGES = pytest.mark.parametrize("kind", ["index", "entry", "compare"])


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    store = with_folds(tmp_path_factory.mktemp("results"))
    built = build_board(store, resamples=1_000)
    for version, score in (("1", 51.0), ("2", 53.5)):
        when = f"2026-02-0{version}T03:00:00+00:00"
        change = ChampionChange(model="icbhi", version=version, when=when, reason="better by 2.5", score=score)
        built.champions.append(change)
    site = tmp_path_factory.mktemp("site")
    write(built, site, Details(built, store))
    built.__dict__["site"] = site
    return built


@pytest.fixture(scope="module")
def site(board: Leaderboard) -> Path:
    return board.__dict__["site"]


@pytest.fixture(scope="module")
def page(site: Path) -> Path:
    return site / PAGE


def show(browser: chromium.Browser, site: Path, board: Leaderboard, kind: str, *, dark: bool = False, **size: int):
    """Open one of the three kinds of pages, all of it there."""
    first, second = board.boards[0].tables[0].entries[:2]
    address = {
        "index": (site / PAGE).as_uri(),
        "entry": (site / "entries" / f"{first.id}.html").as_uri(),
        "compare": (site / "compare.html").as_uri() + f"#{first.id},{second.id}",
    }[kind]
    browser.open(address, dark=dark, **size)
    if kind == "compare":
        browser.wait("document.querySelector('#result .sentence')")


@PAGES
@SIZES
def test_loads_only_its_own_files_and_never_scrolls_sideways(
    browser: chromium.Browser, site: Path, board: Leaderboard, size: dict[str, int], kind: str
):
    browser.requests.clear()
    show(browser, site, board, kind, **size)
    assert browser.evaluate("innerWidth") == size["width"]
    assert browser.evaluate("document.documentElement.scrollWidth") <= size["width"]
    browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= size["width"]
    outside = browser.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, .inside, pre, .hidden')"
        " && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []
    assert all(url.startswith(("data:", site.resolve().as_uri())) for url in browser.requests)


@PAGES
@SIZES
def test_a_screenshot_is_readable(
    browser: chromium.Browser, site: Path, board: Leaderboard, tmp_path: Path, size: dict[str, int], kind: str
):
    show(browser, site, board, kind, **size)
    browser.screenshot(tmp_path / "page.png", whole=False)
    assert (tmp_path / "page.png").stat().st_size > 20_000  # neither blank nor broken
    smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.childNodes.length"
        " && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11
    small = browser.evaluate(  # of what a finger has to hit
        "[...document.querySelectorAll('main button, main select, main input:not([type=radio])')]"
        ".filter(e => e.checkVisibility() && !e.closest('thead')).map(e => e.getBoundingClientRect())"
        ".filter(r => Math.min(r.width, r.height) < 18).length"
    )
    assert small == 0


def luminance(colour: tuple[float, float, float]) -> float:
    """WCAG 2 relative luminance of red, green and blue, 0..255."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def channels(colour: str) -> tuple[float, float, float]:
    """Of ``rgb(r, g, b)``, or ``color(srgb r g b)`` as `color-mix` gives it."""
    found = [float(part) for part in re.findall(r"[\d.]+", colour.replace("srgb", ""))[:3]]
    red, green, blue = (part * 255 for part in found) if colour.startswith("color") else found
    return red, green, blue


@PAGES
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_from_its_ground(
    browser: chromium.Browser, site: Path, board: Leaderboard, dark: bool, kind: str
):
    show(browser, site, board, kind, dark=dark, **DESK)
    browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    pairs = browser.evaluate(
        "(() => { const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;"
        " if (!/, 0\\)|transparent|\\/ 0\\)/.test(c)) return c } return 'rgb(255, 255, 255)' };"
        " const texts = [...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && e.checkVisibility()"
        " && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));"
        " return [...new Set(texts.map(e => [e.tagName + '.' + e.className.split(' ')[0], getComputedStyle(e).color,"
        " ground(e)].join('|')))] })()"
    )
    assert len(pairs) > 15
    for pair in pairs:
        name, ink, ground = pair.split("|")
        bright, dim = sorted((luminance(channels(ink)), luminance(channels(ground))), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, ink, ground)
    assert (luminance(channels(browser.evaluate("getComputedStyle(document.body).backgroundColor"))) < 0.2) is dark


def test_the_readers_choice_of_light_or_dark_is_kept(browser: chromium.Browser, site: Path, board: Leaderboard):
    ground = "getComputedStyle(document.body).backgroundColor"
    show(browser, site, board, "index", **DESK)
    light = browser.evaluate(ground)
    browser.evaluate("document.getElementById('theme').click()")
    dark = browser.evaluate(ground)
    assert dark != light
    show(browser, site, board, "entry", **DESK)
    assert browser.evaluate(ground) == dark
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(ground) == light
    show(browser, site, board, "index", dark=True, **DESK)  # the choice stands above the system's
    assert browser.evaluate(ground) == light
    browser.evaluate("localStorage.clear()")


def test_the_first_rows_can_be_read_without_javascript(browser: chromium.Browser, page: Path, board: Leaderboard):
    """And a script draws the same rows as the page holds."""
    rows = (
        "[...document.querySelector('table.ranking').tBodies[0].rows].map(row =>"
        " [...row.cells].slice(1).map(cell => cell.outerHTML).join('|'))"
    )
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, **DESK)
        still = browser.evaluate(rows)
        assert len(still) == len(board.boards[0].tables[0].entries)
        assert browser.evaluate("document.querySelector('table.ranking').getBoundingClientRect().height") > 100
        assert browser.evaluate("document.getElementById('filters').checkVisibility()") is False
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(page, **DESK)
    assert browser.evaluate(rows) == still
    assert browser.evaluate("document.getElementById('filters').checkVisibility()") is True


def test_a_point_of_the_plot_leads_to_its_entry_by_keyboard(browser: chromium.Browser, page: Path, board: Leaderboard):
    browser.open(page, **DESK)
    browser.tab_to("svg.points a")
    focused = "document.activeElement.getAttribute('href')"
    first = browser.evaluate(focused)
    browser.press("ArrowRight", code=39)
    second = browser.evaluate(focused)
    assert first != second
    assert {first, second} <= {f"entries/{entry.id}.html" for entry in board.boards[0].tables[0].entries}
    assert browser.evaluate("document.activeElement.getAttribute('aria-label')").count("Score") == 1
    browser.press("ArrowLeft", code=37)
    assert browser.evaluate(focused) == first
    browser.press("Enter", code=13, text="\r")
    browser.wait(f"location.pathname.endsWith('{first}')")


def test_the_cost_of_the_plot_can_be_chosen(browser: chromium.Browser, page: Path):
    browser.open(page, **DESK)
    shown = "[...document.querySelectorAll('.pareto')[0].querySelectorAll('[data-cost]')].map(e => e.checkVisibility())"
    assert browser.evaluate(shown) == [True, False]
    browser.evaluate("document.querySelector('input[data-plot=parameters]').click()")
    assert browser.evaluate(shown) == [False, True]


def test_the_published_results_can_be_filtered_and_sorted(browser: chromium.Browser, page: Path, board: Leaderboard):
    browser.open(page, **DESK)
    visible = "[...document.querySelectorAll('#published tbody tr')].filter(row => row.checkVisibility())"
    assert browser.evaluate(f"{visible}.length") == len(board.published)
    browser.evaluate(
        "(() => { const field = document.getElementById('paper-filters').elements.selection; field.value = 'last';"
        " field.dispatchEvent(new Event('input', {bubbles: true})) })()"
    )
    wanted = [row for row in board.published if row.selection == "last"]
    assert 0 < len(wanted) < len(board.published)
    assert browser.evaluate(f"{visible}.length") == len(wanted)
    assert browser.evaluate("document.querySelector('#published .shown').textContent").startswith(
        f"{len(wanted)} result"
    )
    browser.evaluate("document.querySelector('#published th[data-key=year] button').click()")
    years = browser.evaluate(f"{visible}.map(row => +row.cells[1].textContent)")
    assert years == sorted(years, reverse=True)


def test_an_empty_board_is_a_page_too(browser: chromium.Browser, tmp_path: Path):
    store = ResultStore.open(str(tmp_path / "none"))
    built = build_board(store)
    write(built, tmp_path / "site", Details(built, store))
    browser.open(tmp_path / "site" / PAGE, **PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert "lungtune demo" in browser.evaluate("document.body.innerText")
