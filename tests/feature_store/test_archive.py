"""Unpacking a zip: nothing leaves the folder, damage is found, and the folder appears whole or not at all."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from feature_store.archive import unpack
from feature_store.errors import UserError


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["", "ICBHI_final_database/"])
def test_a_folder_that_all_files_share_is_left_out(tmp_path: Path, top: str) -> None:
    files = {f"{top}1.wav": b"sound", f"{top}more/1.txt": b"text"}
    noise = {"__MACOSX/._1.wav": b"x", f"{top}.DS_Store": b"x", f"{top}more/": b""}
    told: list[tuple[str, int, int | None]] = []
    archive = zipped(tmp_path / "a.zip", files | noise)
    assert unpack(archive, tmp_path / "in", progress=lambda *now: told.append(now)) == 2
    assert contents(tmp_path / "in") == {"1.wav": b"sound", "more/1.txt": b"text"}
    assert told == [("in/", 5, 9), ("in/", 9, 9)]


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "..\\out.txt", "C:\\out.txt"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", {"good.txt": b"good", name: b"bad"})
    with pytest.raises(UserError, match="leads out of the folder") as caught:
        unpack(archive, tmp_path / "in")
    assert caught.value.where == str(archive) and list(tmp_path.iterdir()) == [archive]


@pytest.mark.slow
def test_an_archive_larger_than_what_it_should_be_is_refused(tmp_path: Path) -> None:
    """A bomb: 100 kB that unpack to 100 MB. Nothing is written, whatever the disk has room for."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.wav", bytes(100_000_000))
    assert (tmp_path / "a.zip").stat().st_size < 200_000
    with pytest.raises(UserError, match="holds 100,000,000 bytes, and what it should be has 99,999,999 at most"):
        unpack(tmp_path / "a.zip", tmp_path / "in", most_bytes=99_999_999)
    many = zipped(tmp_path / "b.zip", {f"{i}.txt": b"" for i in range(11)})
    with pytest.raises(UserError, match="holds 11 files"):
        unpack(many, tmp_path / "in", most_files=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip"]
    assert unpack(many, tmp_path / "in", most_files=11, most_bytes=0) == 11


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("link/passwd", b"bad")
    with pytest.raises(UserError, match="is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/1.txt": b"one", "a\\1.txt": b"two"})
    with pytest.raises(UserError, match="twice"):
        unpack(archive, tmp_path / "in")


def test_a_wrong_checksum_names_the_file_and_unpacks_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"1.wav": b"one sound", "2.wav": b"another sound"})
    archive.write_bytes(archive.read_bytes().replace(b"another sound", b"another s0und"))
    with pytest.raises(UserError, match=r"'2\.wav' in it cannot be read: Bad CRC-32") as caught:
        unpack(archive, tmp_path / "in")
    assert "downloaded again" in str(caught.value.hint) and list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("keep", [10, -30])
def test_a_file_that_is_no_whole_zip_is_said_to_be_none(tmp_path: Path, keep: int) -> None:
    archive = zipped(tmp_path / "a.zip", {"1.wav": b"one sound"})
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a whole zip"):
        unpack(archive, tmp_path / "in")
    assert list(tmp_path.iterdir()) == [archive]


def test_what_a_killed_call_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".in-unpacking").mkdir()
    (tmp_path / ".in-unpacking" / "half.wav").write_bytes(b"ha")
    archive = zipped(tmp_path / "a.zip", {"1.wav": b"one sound"})
    unpack(archive, tmp_path / "in")
    assert contents(tmp_path / "in") == {"1.wav": b"one sound"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "in"]


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.txt").write_bytes(b"mine")
    archive = zipped(tmp_path / "a.zip", {"1.wav": b"one sound"})
    with pytest.raises(UserError, match="Directory not empty"):
        unpack(archive, tmp_path / "in")
    assert contents(tmp_path / "in") == {"mine.txt": b"mine"}
