"""`lungtune data download icbhi`: from a web server to a corpus that is checked, and nothing twice."""

from __future__ import annotations

import fcntl
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store import icbhi_download
from feature_store.datasets import open_corpus
from feature_store.datasets.synthetic import synthesize
from tests.conftest import Run
from tests.support.file_server import FileServer

ZIP, SPLIT = "ICBHI_final_database.zip", "ICBHI_challenge_train_test.txt"
OPTIONAL = ("ICBHI_Challenge_diagnosis.txt", "ICBHI_Challenge_demographic_information.txt", "events.zip")


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small corpus as the challenge's site has it: two zips and three lists."""
    root = synthesize(
        tmp_path_factory.mktemp("published") / "corpus", patients=10, recordings_per_patient=1, cycles_per_recording=2
    )
    recordings = {path.name: path.read_bytes() for path in sorted((root / "ICBHI_final_database").iterdir())}
    recordings["SYNTHETIC"] = (root / "SYNTHETIC").read_bytes()
    first = min(name.removesuffix(".wav") for name in recordings if name.endswith(".wav"))
    return {
        ZIP: zipped({f"ICBHI_final_database/{name}": content for name, content in recordings.items()}),
        SPLIT: (root / SPLIT).read_bytes(),
        "ICBHI_Challenge_diagnosis.txt": (root / "ICBHI_Challenge_diagnosis.txt").read_bytes(),
        "ICBHI_Challenge_demographic_information.txt": (root / "metadata.txt").read_bytes(),
        "events.zip": zipped({f"events/{first}_events.txt": b"0.100 0.110 crackle\n"}),
    }


@pytest.fixture
def site(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer(dict(published)) as server:
        yield server


def download(run: Run, site: FileServer, root: Path, *more: str) -> tuple[int, str, str]:
    return run("data", "download", "icbhi", "--root", str(root), "--mirror", site.url, *more)


@pytest.mark.slow
def test_the_whole_database_is_fetched_unpacked_and_audited(run: Run, site: FileServer, tmp_path: Path) -> None:
    root = tmp_path / "icbhi"
    code, printed, error = download(run, site, root)
    assert code == 0, error
    assert "complete: all 10 recordings, 20 cycles of 10 patients" in printed
    assert {answer.name for answer in site.served} == set(icbhi_download.FILES.values())
    corpus = open_corpus("icbhi", root)
    assert len(corpus.recordings) == 10 and len(corpus.events()) == 1
    assert set(corpus.splits()) >= {"official", "official-no-overlap"}
    sexes = corpus.cycle_table()["sex"].to_pylist()
    assert set(sexes) <= {"M", "F"} and all(cycle.labels["diagnosis2"] is not None for cycle in corpus.cycles())
    assert ZIP in error, "progress goes to stderr"


@pytest.mark.slow
def test_a_second_run_fetches_nothing_even_without_the_zip(run: Run, site: FileServer, tmp_path: Path) -> None:
    download(run, site, tmp_path)
    (tmp_path / ZIP).unlink()
    served = len(site.served)
    code, printed, _ = download(run, site, tmp_path, "--json")
    assert code == 0 and len(site.served) == served
    found = json.loads(printed)
    assert {part["what"]: part["state"] for part in found["parts"]} == dict.fromkeys(icbhi_download.FILES, "present")
    assert found["missing"] is None and found["audit"]["recordings"] == 10
    assert found["archives"] == [str(tmp_path / "events.zip")]


@pytest.mark.slow
def test_files_put_there_by_hand_are_not_fetched(run: Run, site: FileServer, tmp_path: Path) -> None:
    for name in (ZIP, SPLIT):
        (tmp_path / name).write_bytes(site.files.pop(name))
    assert download(run, site, tmp_path)[0] == 0
    assert {answer.name for answer in site.served} == set(OPTIONAL)


@pytest.mark.slow
def test_a_mirror_without_the_extra_files_still_gives_the_database(run: Run, site: FileServer, tmp_path: Path) -> None:
    for name in OPTIONAL:
        del site.files[name]
    code, printed, _ = download(run, site, tmp_path, "--json")
    states = {part["what"]: part["state"] for part in json.loads(printed)["parts"]}
    assert code == 0 and states["recordings"] == states["split"] == "fetched"
    assert {states[what] for what in ("diagnoses", "demographics", "events")} == {"not there"}


@pytest.mark.parametrize("name", [ZIP, SPLIT])
def test_a_needed_file_that_is_not_there_says_how_to_get_it_by_hand(
    run: Run, site: FileServer, tmp_path: Path, name: str
) -> None:
    del site.files[name]
    code, _, error = download(run, site, tmp_path)
    assert code == 2 and f"{site.url}/{name}: the server answered 404" in error
    assert f"download {name} by hand from {icbhi_download.PAGE}, put it into {tmp_path}" in error


@pytest.mark.slow
def test_a_row_of_the_split_with_the_wrong_device_finds_its_recording(
    run: Run, site: FileServer, tmp_path: Path
) -> None:
    lines = site.files[SPLIT].decode().splitlines()
    name, side = lines[4].split("\t")
    other = f"{name.rpartition('_')[0]}_{'AKGC417L' if name.endswith('Meditron') else 'Meditron'}"
    site.files[SPLIT] = "\n".join([*lines[:4], f"{other}\t{side}", *lines[5:]]).encode()
    code, printed, error = download(run, site, tmp_path, "--json")
    assert code == 0, error
    assert json.loads(printed)["corrected"] == [f"{other} -> {name}"]
    assert (tmp_path / SPLIT).read_text().splitlines() == lines
    assert json.loads(download(run, site, tmp_path, "--json")[1])["corrected"] == []


def test_a_recording_that_is_missing_is_no_success(run: Run, site: FileServer, tmp_path: Path) -> None:
    site.files[SPLIT] += b"226_1b1_Pl_sc_Meditron\ttrain\n"
    code, printed, error = download(run, site, tmp_path)
    assert code == 2 and "partial: 10 of 11" in printed and "226_1b1_Pl_sc_Meditron" in printed
    assert "not the whole database: 10 of 11 recordings are here and good" in error


def test_a_database_of_another_size_is_not_the_challenges(run: Run, site: FileServer, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(site.files[ZIP])) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("SYNTHETIC")}
    site.files[ZIP] = zipped(files)
    code, _, error = download(run, site, tmp_path)
    assert code == 2 and "the official split lists 10 recordings, not 920" in error


@pytest.mark.slow
def test_a_damaged_zip_leaves_no_recordings_behind(run: Run, site: FileServer, tmp_path: Path) -> None:
    at = site.files[ZIP].index(b"RIFF") + 2000
    true, site.files[ZIP] = site.files[ZIP], site.files[ZIP][:at] + b"damage" + site.files[ZIP][at + 6 :]
    code, _, error = download(run, site, tmp_path)
    assert code == 2 and "Bad CRC-32" in error and not (tmp_path / "ICBHI_final_database").exists()
    site.files[ZIP] = true
    (tmp_path / ZIP).unlink()  # as the error says
    assert download(run, site, tmp_path)[0] == 0


def test_a_folder_in_the_recordings_place_is_left_alone(run: Run, site: FileServer, tmp_path: Path) -> None:
    (tmp_path / "ICBHI_final_database").mkdir()
    (tmp_path / "ICBHI_final_database" / "notes.md").write_text("mine")
    code, _, error = download(run, site, tmp_path)
    assert code == 2 and "holds no audio" in error and not site.served


def test_two_downloads_into_a_folder_do_not_meet(run: Run, site: FileServer, tmp_path: Path) -> None:
    with (tmp_path / icbhi_download.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, error = download(run, site, tmp_path)
    assert code == 2 and "another process is downloading" in error and not site.served


def test_bad_input_ends_with_two(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (("icbi", "--root", str(tmp_path)), "did you mean 'icbhi'?"),
        (("icbhi", "--root", str(tmp_path / "file")), "cannot be written"),
        (("icbhi", "--root", str(tmp_path), "--mirror", "ftp://host"), "http://"),
        (("icbhi",), "Missing option"),
    ):
        code, printed, error = run("data", "download", *arguments)
        assert code == 2 and said in error and not printed


def test_help_shows_an_example_and_the_site(run: Run) -> None:
    printed = run("data", "download", "--help")[1]
    assert "Example: lungtune data download icbhi" in " ".join(printed.split()) and "bhichallenge.med" in printed
