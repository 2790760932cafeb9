"""`site.json` lies where others may write: whatever it names, only files that a build wrote are touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feature_store.errors import UserError
from orchestrator.leaderboard.site.folder import INDEX, SiteFolder
from orchestrator.leaderboard.site.index import written

OLD = "entries/0123456789ab.html"


def publish(site: Path, *names: str) -> None:
    with SiteFolder(site) as folder:
        for name in names:
            folder.put(name, "new")


def name_in_index(site: Path, *names: str) -> None:
    content = json.loads((site / INDEX).read_text())
    content["files"] |= {name: ["0" * 16, 4] for name in names}
    (site / INDEX).write_text(json.dumps(content))


def test_names_that_lead_out_of_the_site_or_that_no_build_gives_are_left_alone(tmp_path: Path) -> None:
    site, mine = tmp_path / "site", tmp_path / "mine.html"
    publish(site, "index.html", OLD)
    mine.write_text("mine")
    for name in ("notes.txt", "entries/notes.txt", ".hidden", "entries/.html"):
        (site / name).write_text("mine")
    named = [str(mine), "../mine.html", "entries/../../mine.html", "./notes.txt", "notes.txt", "entries/notes.txt"]
    name_in_index(site, *named, ".hidden", "entries/.html", "entries/..", "", "entries//x.html", "entries\\x.html")
    publish(site, "index.html")
    assert mine.read_text() == "mine" and not (site / OLD).exists(), (
        "a page that the build before wrote is cleared away"
    )
    assert all((site / name).read_text() == "mine" for name in ("notes.txt", "entries/notes.txt", ".hidden"))
    assert list(json.loads((site / INDEX).read_text())["files"]) == ["index.html"]


def test_a_link_in_the_site_is_not_followed(tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    publish(site, "index.html")
    elsewhere.mkdir()
    (elsewhere / "0123456789ab.html").write_text("mine")
    (site / "entries").symlink_to(elsewhere)
    name_in_index(site, OLD)
    with pytest.raises(UserError, match="leads out of it") as refused:
        publish(site, "index.html", "entries/ffffffffffff.html")
    assert refused.value.hint and [path.name for path in elsewhere.iterdir()] == ["0123456789ab.html"]
    publish(site, "index.html")
    assert (elsewhere / "0123456789ab.html").read_text() == "mine"


def test_a_page_that_is_a_link_is_written_anew_and_its_target_stays(tmp_path: Path) -> None:
    site, secret = tmp_path / "site", tmp_path / "secret"
    publish(site, "index.html", OLD)
    secret.write_text("own")
    (site / "index.html").unlink()
    (site / "index.html").symlink_to(secret)
    publish(site, "index.html", OLD)
    assert secret.read_text() == "own" and not (site / "index.html").is_symlink()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "disk")
    publish(tmp_path / "site", "index.html", OLD)
    publish(tmp_path / "site", "index.html")
    assert (tmp_path / "disk" / "index.html").exists() and not (tmp_path / "disk" / OLD).exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", '{"version": 1}', '{"version": 1, "files": []}', '{"version": 1, "files": {"index.html": 7}}',
     '{"version": 1, "files": {"index.html": ["a", "b"]}}', '{"version": 1, "files": {"index.html": ["a", 1, [7]]}}',
     "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_an_index_that_cannot_be_read_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_bytes(content.encode("utf-8", "surrogateescape"))
    publish(tmp_path, "index.html")
    assert (tmp_path / "index.html").read_text() == "new"
    assert list(json.loads((tmp_path / INDEX).read_text())["files"]) == ["index.html"]


@pytest.mark.parametrize("name", ["index.html", "assets/base.js", "boards/icbhi-a.b+c.json", "data/board.js", OLD])
def test_what_a_build_writes_is_known(name: str) -> None:
    assert written(name) and not written(f"../{name}") and not written(f"/{name}") and not written(f"{name}\n")
