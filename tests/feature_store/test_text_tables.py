"""Lists and folders as people hand them on: every adapter reads them, whoever wrote them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_store.datasets import open_corpus
from feature_store.datasets.base import Corpus
from feature_store.datasets.text_tables import find_file, number_of, read_lines, read_rows
from feature_store.errors import UserError
from tests.support.breathing_clips import write_clips
from tests.support.voice_clips import write_voices

ROWS = [["101", "0.5", "URTI"], ["102", "1.25", "COPD"]]


def commas(text: str) -> bytes:
    return text.replace("|", ",").encode()


def semicolons_of_a_spreadsheet(text: str) -> bytes:
    """Semicolons, decimal commas, CRLF and a byte-order mark."""
    text = re.sub(r"(?<=\d)\.(?=\d)", ",", text)
    return text.replace("|", ";").replace("\n", "\r\n").encode("utf-8-sig")


WRITINGS: list[Callable[[str], bytes]] = [
    commas,
    semicolons_of_a_spreadsheet,
    lambda text: text.replace("|", "\t").encode(),
    lambda text: text.replace("|", "\t").encode("utf-16"),
    lambda text: text.replace("|", "\t").replace("\n", "\r").encode(),
]
writings = pytest.mark.parametrize("write", WRITINGS, ids=["comma", "semicolon", "tab", "utf-16", "old Mac"])


@writings
def test_every_writing_of_a_list_gives_the_same_fields(write: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(write("".join("|".join(row) + "\n" for row in ROWS) + "\n"))
    rows = list(read_lines(path))
    assert [number for number, _ in rows] == [1, 2]
    read = [[first, str(number_of(second)), third] for _, (first, second, third) in rows]
    assert read == ROWS
    path.write_bytes(write("id | dose|name\n" + "".join("|".join(row) + "\n" for row in ROWS)))
    columns, cells = read_rows(path)
    assert columns == ["id", "dose", "name"]
    assert [(line, row["id"], number_of(row["dose"]), row["name"]) for line, row in cells] == [
        (2, "101", 0.5, "URTI"),
        (3, "102", 1.25, "COPD"),
    ]


@pytest.mark.parametrize(("text", "value"), [("0,5", 0.5), ("-1,25", -1.25), ("3", 3.0), ("1e-3", 1e-3)])
def test_a_number_may_have_a_decimal_comma(text: str, value: float) -> None:
    assert number_of(text) == value
    with pytest.raises(ValueError, match="convert"):
        number_of("1,2,3")


@pytest.mark.parametrize("content", [b"\xfe\x00\x81", b"RIFF\0\0\0\0"])
def test_what_is_no_text_is_refused_with_its_place(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    for name, what in (("list.csv", "is not a text file"), ("other.csv", "there is no such list")):
        with pytest.raises(UserError, match=what) as error:
            read_rows(tmp_path / name)
        assert error.value.where == str(tmp_path / name) and error.value.hint


def test_a_file_is_found_in_capitals_but_not_as_a_leftover_of_macos(tmp_path: Path) -> None:
    (tmp_path / "._train.csv").write_text("x")
    assert find_file([tmp_path, tmp_path / "nowhere"], ["train.csv"]) is None
    (tmp_path / "TRAIN.csv").write_text("x")
    assert find_file([tmp_path], ["test.csv", "train.csv"]) == tmp_path / "TRAIN.csv"


# --- each adapter ---


def litter(root: Path) -> None:
    """What macOS' archiver leaves: a twin of every file, beside it and in a folder of its own."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        twin = root / "__MACOSX" / path.relative_to(root).parent / f"._{path.name}"
        twin.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (twin, path.with_name(f"._{path.name}")):
            leftover.write_bytes(b"\x00\x05\x16\x07Mac OS X")


def capitals(root: Path) -> None:
    for path in list(root.rglob("*.wav")):
        path.rename(path.with_suffix(".WAV"))


def names_of(corpus: Corpus) -> list[tuple[str, list[dict[str, int | None]]]]:
    assert not [problem for problem in corpus.problems if problem.severity == "error"], corpus.problems[:3]
    return [(recording.name, [cycle.labels for cycle in recording.cycles]) for recording in corpus.recordings]


@pytest.mark.parametrize("dataset", ["breathing-phase", "aicup-voice"])
@pytest.mark.parametrize("write", WRITINGS[1:4], ids=["semicolon", "tab", "utf-16"])
def test_the_lists_of_clips_are_read_in_every_writing(
    dataset: str, write: Callable[[str], bytes], tmp_path: Path
) -> None:
    root = write_clips(tmp_path / "c", count=12, tested=2) if dataset == "breathing-phase" else None
    root = root or write_voices(tmp_path / "c", count=6, tested=2)
    before = open_corpus(dataset, root)
    names, tables = names_of(before), [recording.table for recording in before.recordings]
    clips = [name for name, _ in before.contest().clips]
    capitals(root)
    litter(root)
    for path in [path for path in root.rglob("*.csv") if not path.name.startswith("._")]:
        path.write_bytes(write(path.read_text().replace(",", "|")))
    after = open_corpus(dataset, root)
    assert names_of(after) == names and [recording.table for recording in after.recordings] == tables
    assert [name for name, _ in after.contest().clips] == clips
    assert {recording.audio.suffix for recording in after.recordings if recording.audio} == {".WAV"}


def test_sprsound_is_read_in_capitals_and_beside_what_macos_leaves(tmp_path: Path) -> None:
    from test_sprsound import write

    write(tmp_path, "train", 65000000, 1)
    write(tmp_path, "inter", 65000100, 2)
    names = names_of(open_corpus("sprsound", tmp_path))
    capitals(tmp_path)
    litter(tmp_path)
    for path in [path for path in tmp_path.rglob("*.json") if not path.name.startswith("._")]:
        path.write_bytes(json.dumps(json.loads(path.read_text())).encode("utf-8-sig"))
    corpus = open_corpus("sprsound", tmp_path)
    assert names_of(corpus) == names and corpus.problems == []


@pytest.fixture
def database(synthetic_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_corpus, tmp_path / "database"))


def test_icbhi_is_read_in_every_writing(database: Path) -> None:
    names = names_of(open_corpus("icbhi", database))
    capitals(database)
    for path in database.rglob("*_*.txt"):
        path.write_bytes(semicolons_of_a_spreadsheet(path.read_text().replace("\t", "|").replace(" ", "|")))
    litter(database)
    split = next(path for path in database.glob("*.txt") if "train_test" in path.name or "split" in path.name)
    text = split.read_text(encoding="utf-8-sig")
    rows = [line.split(";") for line in text.splitlines()]
    split.write_text("".join(f"{name}.wav\t{side.upper()}\n" for name, side in rows))
    corpus = open_corpus("icbhi", database)
    assert names_of(corpus) == names and not corpus.problems
    sides = dict(rows)
    official = corpus.splits()["official"]
    assert {c.split("#")[0] for c in official.side(0, "test")} == {n for n, side in sides.items() if side == "test"}


@pytest.mark.parametrize(
    ("recordings", "lists"),
    [
        ("data/icbhi_dataset/audio_test_data", "data/icbhi_dataset"),  # Patch-Mix's
        ("Respiratory_Sound_Database/audio_and_txt_files", "Respiratory_Sound_Database"),  # Kaggle's mirror
        ("Respiratory_Sound_Database/Respiratory_Sound_Database/audio_and_txt_files", "Respiratory_Sound_Database"),
    ],
)
def test_the_folders_of_releases_and_mirrors_are_found(database: Path, tmp_path: Path, recordings: str, lists: str):
    names = names_of(open_corpus("icbhi", database))
    folder = next(path.parent for path in sorted(database.rglob("*.wav")))
    root = tmp_path / "moved"
    (root / recordings).parent.mkdir(parents=True)
    marked = [path for path in database.iterdir() if path.is_file()]
    near = (root / recordings).parent if recordings.count("/") > 1 and "Respiratory" in recordings else root / lists
    for path in marked:
        shutil.copy(path, near / path.name)
    shutil.copytree(folder, root / recordings, dirs_exist_ok=True)
    litter(root)
    assert names_of(open_corpus("icbhi", root)) == names
