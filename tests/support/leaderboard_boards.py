"""Boards of made-up results, and what tests look up in them."""

from __future__ import annotations

from pathlib import Path

from orchestrator.leaderboard import exports
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import Board, Entry, Leaderboard, Table
from orchestrator.leaderboard.site import pages
from orchestrator.leaderboard.site.write import PAGE
from tests.support.leaderboard_results import RECIPES, Recipe
from workers.results import ResultStore

CHAMPION = {RECIPES[2].config_hash: {"name": "icbhi-lungsound4", "version": 3, "alias": "champion"}}
NOON = "2026-03-02T12:00:00+00:00"


def build(folder: Path, resamples: int = 200) -> Leaderboard:
    return build_board(ResultStore.open(str(folder)), resamples=resamples)


def marked_board(store: ResultStore, generated: str = NOON) -> Leaderboard:
    """The board on which one config is the champion."""
    return build_board(store, CHAMPION, generated=generated, resamples=1_000)


def table_of(board: Board, protocol: str = "last") -> Table:
    return next(table for table in board.tables if table.protocol == protocol)


def entry_of(table: Table, recipe: Recipe) -> Entry:
    return next(e for e in (*table.entries, *table.incomplete) if e.config_hash == recipe.config_hash)


def write_index(board: Leaderboard, folder: Path) -> Path:
    """The index alone, with its scripts: for tests that need no entry's page."""
    files = {**pages.assets(), pages.DATA: exports.board_script(board), PAGE: pages.index_page(board)}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder / PAGE
