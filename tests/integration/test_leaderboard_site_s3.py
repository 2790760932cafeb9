"""The leaderboard's site on a real S3 server (SeaweedFS)."""

from __future__ import annotations

import uuid
from pathlib import Path

from feature_store.storage import open_storage
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.site.write import PAGE, write
from tests.support.leaderboard_results import RECIPES, Side, publish
from workers.results import ResultStore


def test_a_site_on_s3_is_the_one_of_a_folder_and_forgets_what_is_gone(s3: str, tmp_path: Path) -> None:
    place = f"{s3}/{uuid.uuid4().hex}"
    store = ResultStore.open(str(tmp_path / "results"))
    for recipe in RECIPES[2:4]:
        publish(store, recipe, Side(), seeds=[0])
    board = build_board(store, resamples=200)
    write(board, tmp_path / "site", Details(board, store))
    places = write(board, place, Details(board, store))
    assert places[PAGE] == f"{place}/{PAGE}"
    storage = open_storage(place)
    files = {path.relative_to(tmp_path / "site").as_posix(): path for path in (tmp_path / "site").rglob("*.*")}
    assert set(storage.list("")) == {name for name, path in files.items() if path.is_file()}
    for name in storage.list(""):
        assert storage.read(name) == files[name].read_bytes(), name
    gone = board.boards[0].tables[0].entries.pop()
    write(board, place, Details(board, store))
    assert not [name for name in storage.list("entries") if gone.id in name]
    assert gone.id not in storage.read("data/board.js").decode()
    kept = board.boards[0].tables[0].entries[0]
    assert f"entries/{kept.id}.html" in storage.list("entries")
