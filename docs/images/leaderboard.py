"""Make the pictures of the leaderboard in this folder, in Debian's chromium: `python docs/images/leaderboard.py`.

The results are made up (those of the tests), so that anybody gets the same pictures. With the folder of a built board
as argument its pages are taken instead.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import chromium  # noqa: E402

from orchestrator.leaderboard.board import build_board  # noqa: E402
from orchestrator.leaderboard.entry_documents import Details  # noqa: E402
from orchestrator.leaderboard.site.write import write  # noqa: E402
from tests.support.leaderboard_results import five_fold, realistic  # noqa: E402

DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


def made_up(folder: Path) -> Path:
    """A board of the tests' made-up results."""
    five_fold(folder / "results")
    store = realistic(folder / "results")
    board = build_board(store, resamples=2_000)
    write(board, folder / "site", Details(board, store))
    return folder / "site"


def take(site: Path, profile: Path) -> None:
    """All pictures of a built board."""
    tables = json.loads((site / "leaderboard.json").read_text())["boards"][0]["tables"]
    first, *_, last = (entry["id"] for entry in tables[0]["entries"])
    views = {
        "index": ("index.html", DESK, False, "section.protocol"),
        "phone": ("index.html", PHONE, True, "section.protocol .shown"),
        "entry": (f"entries/{first}.html", DESK, False, "body"),
        "compare": (f"compare.html#{first},{last}", DESK, False, "body"),
    }
    with chromium.browser(profile) as browser:
        for name, (address, size, dark, start) in views.items():
            browser.open(f"{site.resolve().as_uri()}/{address}", dark=dark, **size)
            if name == "compare":
                browser.wait("document.querySelector('#result .sentence')")
            browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
            browser.evaluate(f"document.querySelector('{start}').scrollIntoView()")
            path = HERE / f"leaderboard-{name}.png"
            browser.screenshot(path, whole=False)
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, optimize=True)
            print(path.relative_to(ROOT), f"{path.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        take(Path(sys.argv[1]) if len(sys.argv) > 1 else made_up(Path(scratch)), Path(scratch) / "profile")
