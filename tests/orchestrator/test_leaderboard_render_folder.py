"""The board's folder: a build is put in place as a whole or not at all, and what has not changed is not made again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.errors import UserError
from orchestrator.cli.leaderboard import app
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site.folder import SiteFolder
from orchestrator.leaderboard.site.write import PAGE, write
from tests.support.leaderboard_results import RECIPES, Side, publish
from workers.results import ResultStore

pytestmark = pytest.mark.slow


def built(folder: Path, recipes: int, there: int = 0) -> tuple[Leaderboard, Details]:
    """A board of so many configs, one seed each, of which some are in the store already."""
    store = ResultStore.open(str(folder))
    for recipe in RECIPES[there:recipes]:
        publish(store, recipe, Side(), seeds=[0])
    board = build_board(store, generated="2026-03-02T12:00:00+00:00", resamples=200)
    return board, Details(board, store)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    board, details = built(tmp_path / "results", 1)
    with pytest.raises(UserError, match="cannot be written") as raised:
        write(board, tmp_path / "file", details)
    assert raised.value.hint
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_ends_with_2_where_the_board_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    command = [sys.executable, "-m", "orchestrator", "leaderboard", "build", "--out", str(tmp_path / "file" / "board")]
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "LUNGTUNE_HOME": str(tmp_path / "home")}
    )
    assert ran.returncode == 2
    assert "cannot be written" in ran.stderr and "--out" in ran.stderr


def test_a_disk_that_fills_up_leaves_the_old_board_untouched(tmp_path: Path):
    """The build may write no file above 30 kB, so that it fails among its last files."""
    board, details = built(tmp_path / "results", 1)
    write(board, tmp_path / "site", details)
    built(tmp_path / "results", 4, there=1)
    before = contents(tmp_path / "site")
    command = [sys.executable, "-m", "orchestrator", "leaderboard", "build", "--out", str(tmp_path / "site")]
    ran = subprocess.run(
        [*command, "--results", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        env={**os.environ, "LUNGTUNE_HOME": str(tmp_path / "home")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert ran.returncode == 2, ran.stderr
    assert "cannot be written: File too large" in ran.stderr
    assert contents(tmp_path / "site") == before
    assert not list((tmp_path / "site").glob(".build-*"))
    again = CliRunner().invoke(
        app,
        ["build", "--out", str(tmp_path / "site"), "--results", str(tmp_path / "results")],
        env={"LUNGTUNE_HOME": str(tmp_path / "home")},
    )
    assert again.exit_code == 0
    assert contents(tmp_path / "site")[PAGE] != before[PAGE]


def test_pages_of_unchanged_entries_are_not_written_again(tmp_path: Path):
    board, details = built(tmp_path / "results", 3)
    write(board, tmp_path / "site", details)
    before = times(tmp_path / "site")
    write(board, tmp_path / "site", details)
    assert {name for name, when in times(tmp_path / "site").items() if when != before[name]} == {"site.json"}
    # Another entry's page is new; the documents of the old ones stay, whatever their ranks are now.
    board, details = built(tmp_path / "results", 4, there=3)
    asked: list[str] = []
    details.entry = lambda entry, real=details.entry: (asked.append(entry.id), real(entry))[1]  # type: ignore[method-assign]
    write(board, tmp_path / "site", details)
    new = {
        entry.id
        for table in board.boards[0].tables
        for entry in table.entries
        if entry.config_hash == RECIPES[3].config_hash
    }
    assert set(asked) == new and len(new) == 2
    after = times(tmp_path / "site")
    assert all(
        after[name] == when for name, when in before.items() if name.endswith((".yaml", ".json")) and "/" in name
    )
    for entry in board.boards[0].tables[0].entries:  # pages of entries whose rank has changed say so
        page = (tmp_path / "site" / "entries" / f"{entry.id}.html").read_text()
        assert f"Rank <b>{entry.rank}</b>" in page


def test_a_page_that_was_lost_or_cut_is_made_again(tmp_path: Path):
    board, details = built(tmp_path / "results", 2)
    write(board, tmp_path / "site", details)
    whole = contents(tmp_path / "site")
    lost, cut, other = sorted((tmp_path / "site" / "entries").iterdir())[:3]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:10])
    other.write_bytes(b"")
    (tmp_path / "site" / "assets" / "style.css").unlink()
    write(board, tmp_path / "site", details)
    assert contents(tmp_path / "site") == whole


def test_an_entry_that_is_gone_takes_its_files_along(tmp_path: Path):
    board, details = built(tmp_path / "results", 3)
    write(board, tmp_path / "site", details)
    gone = board.boards[0].tables[0].entries.pop()
    write(board, tmp_path / "site", Details(board, ResultStore.open(str(tmp_path / "results"))))
    assert not list((tmp_path / "site" / "entries").glob(f"{gone.id}.*"))
    assert (tmp_path / "site" / "entries" / f"{board.boards[0].tables[0].entries[0].id}.html").exists()


def test_other_files_of_the_folder_stay(tmp_path: Path):
    board, details = built(tmp_path / "results", 1)
    site = tmp_path / "site"
    site.mkdir()
    (site / "notes.txt").write_text("mine")
    (site / PAGE).write_text("old")
    write(board, site, details)
    write(board, site, details)
    assert (site / "notes.txt").read_text() == "mine"
    assert (site / PAGE).read_text() != "old"


def test_what_a_killed_build_left_is_cleared_away_a_day_later(tmp_path: Path):
    left, running = tmp_path / ".build-dead", tmp_path / ".build-alive"
    left.mkdir()
    running.mkdir()
    os.utime(left, (time.time() - 90_000,) * 2)
    with SiteFolder(tmp_path) as folder:
        folder.put("page.html", "text")
    assert not left.exists() and running.exists()
    assert (tmp_path / "page.html").read_text() == "text"


def test_an_error_on_the_way_puts_nothing_in_place(tmp_path: Path):
    with pytest.raises(RuntimeError), SiteFolder(tmp_path) as folder:
        folder.put("page.html", "text")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
