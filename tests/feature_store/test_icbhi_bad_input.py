"""Every kind of broken recording is named with its file and row, left out, and does no harm to the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_store.audit import audit
from feature_store.build import build
from feature_store.datasets.base import Problem
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.datasets.icbhi_published import published_split
from feature_store.errors import UserError
from feature_store.features import NAMED
from feature_store.store import FeatureStore

GOOD = "105_1b1_Tc_sc_Meditron"
BAD = "119_1b1_Ar_sc_Meditron"
RATE = 4000
SECONDS = 4.0
ROWS = "0.1\t1.5\t0\t0\n1.5\t2.9\t1\t0\n"


def write_audio(path: Path, channels: int = 1, seconds: float = SECONDS, rate: int = RATE, **options) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate, **options)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two good recordings and every list; each test breaks the second one."""
    for name in (GOOD, BAD):
        write_audio(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(ROWS)
    (tmp_path / "official_split.txt").write_text(f"{GOOD}\ttrain\n{BAD}\ttest")
    (tmp_path / "patient_list_foldwise.txt").write_text("105 0\n119 1\n")
    (tmp_path / "patient_diagnosis.txt").write_text("105\tURTI\n119\tHealthy\n")
    (tmp_path / "filename_differences.txt").write_text("'105_1b1_Tc_sc_AKGC417L'\n")
    return tmp_path


def the_problem(database: Path, kept: tuple[str, ...] = (GOOD,)) -> Problem:
    """The one error of the corpus; the other recording must still be there."""
    corpus = IcbhiCorpus(database)
    assert tuple(r.name for r in corpus.recordings) == kept
    errors = [p for p in corpus.problems if p.severity == "error"]
    assert len(errors) == 1, errors
    assert errors[0].hint
    sides = corpus.splits()["official"]
    assert len(sides.side(0, "train")) + len(sides.side(0, "test")) == 2 * len(kept)
    return errors[0]


def test_the_database_is_good_before_it_is_broken(database):
    corpus = IcbhiCorpus(database)
    assert [r.name for r in corpus.recordings] == [GOOD, BAD]
    assert corpus.problems == []


def test_truncated_wav(database):
    path = database / f"{BAD}.wav"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    problem = the_problem(database)
    assert problem.where == str(path)
    assert "truncated" in problem.what and "50% missing" in problem.what


def test_wav_that_lacks_only_its_last_sample(database):
    path = database / f"{BAD}.wav"
    path.write_bytes(path.read_bytes()[:-2])
    assert "truncated" in the_problem(database).what


def test_wav_of_unknown_length_is_not_truncated(database):
    path = database / f"{BAD}.wav"
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert [r.name for r in IcbhiCorpus(database).recordings] == [GOOD, BAD]


def test_truncated_flac(database):
    (database / f"{BAD}.wav").unlink()
    path = database / f"{BAD}.flac"
    write_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    problem = the_problem(database)
    assert problem.where == str(path)
    assert "truncated" in problem.what or "cannot be read" in problem.what


def test_empty_file(database):
    (database / f"{BAD}.wav").write_bytes(b"")
    assert "empty (0 bytes)" in the_problem(database).what


def test_no_samples(database):
    write_audio(database / f"{BAD}.wav", seconds=0)
    assert "no sound" in the_problem(database).what


def test_not_audio(database):
    (database / f"{BAD}.wav").write_text("<html>404 not found</html>" * 10)
    assert "cannot be read as audio" in the_problem(database).what


def test_stereo(database):
    write_audio(database / f"{BAD}.wav", channels=2)
    assert "2 channels" in the_problem(database).what


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW"])
def test_sample_format_too_coarse(database, subtype):
    write_audio(database / f"{BAD}.wav", subtype=subtype)
    assert subtype in the_problem(database).what


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("rate", [4000, 44100])
def test_sample_formats_that_are_read(database, subtype, rate):
    write_audio(database / f"{BAD}.wav", rate=rate, subtype=subtype)
    assert IcbhiCorpus(database).problems == []


def test_low_rate_is_a_warning(database):
    write_audio(database / f"{BAD}.wav", rate=2000)
    corpus = IcbhiCorpus(database)
    assert len(corpus.recordings) == 2
    assert [(p.severity, "2000 Hz" in p.what) for p in corpus.problems] == [("warning", True)]


def test_missing_audio_and_missing_annotation(database):
    (database / f"{BAD}.wav").unlink()
    assert f"no audio {BAD}.wav" in the_problem(database).what
    write_audio(database / f"{BAD}.wav")
    (database / f"{BAD}.txt").unlink()
    assert f"no annotation {BAD}.txt" in the_problem(database).what


@pytest.mark.parametrize(
    ("rows", "row", "words"),
    [
        ("", None, "empty"),
        ("\n  \n", None, "empty"),
        ("0.1\t1.5\t0\n", 1, "3 columns"),
        (ROWS + "2.9\t3.5\t0\t0\t1\n", 3, "5 columns"),
        ("0.1\tabc\t0\t0\n", 1, "end is 'abc', not a number"),
        ("0.1.2\t1.5\t0\t0\n", 1, "start is '0.1.2', not a number"),
        ("0.1\tnan\t0\t0\n", 1, "not a number"),
        (ROWS + "3.0\t2.95\t0\t0\n", 3, "not after its start"),
        ("1.0\t1.0\t0\t0\n", 1, "not after its start"),
        ("-0.5\t1.0\t0\t0\n", 1, "before the recording"),
        (ROWS + "2.9\t3.5\t2\t0\n", 3, "crackle is '2'"),
        (ROWS + "2.9\t3.5\t0\tyes\n", 3, "wheeze is 'yes'"),
        (ROWS + f"2.9\t{SECONDS + 0.01}\t0\t0\n", None, "past the end of the audio"),
    ],
)
def test_bad_annotation(database, rows, row, words):
    path = database / f"{BAD}.txt"
    path.write_text(rows)
    problem = the_problem(database)
    assert problem.where == (f"{path}, row {row}" if row else str(path))
    assert words in problem.what


def test_annotation_that_is_not_text(database):
    (database / f"{BAD}.txt").write_bytes(b"\xfe\x00\x81")
    assert "not a text file" in the_problem(database).what


def test_end_rounded_up_to_a_millisecond_is_not_past_the_end(database):
    (database / f"{BAD}.txt").write_text(f"0.1\t1.5\t0\t0\n1.5\t{SECONDS + 0.001}\t1\t0\n")
    assert IcbhiCorpus(database).problems == []


def test_all_bad_rows_of_a_file_are_named(database):
    (database / f"{BAD}.txt").write_text("1.0\t0.5\t0\t0\n" + ROWS + "0.1\t0.2\t0\n")
    problems = IcbhiCorpus(database).problems
    assert [p.where.rsplit(", ", 1)[1] for p in problems] == ["row 1", "row 4"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("119_1b1_Ar_Meditron", "4 parts, not 5"),
        ("119_1b1_Ar_sc_Medtron", "unknown device 'Medtron' in the name (did you mean 'Meditron'"),
        ("119_1b1_Xx_sc_Meditron", "unknown chest location 'Xx'"),
        ("119_1b1_Ar_xc_Meditron", "unknown acquisition mode 'xc'"),
    ],
)
def test_bad_name(database, name, words):
    for suffix in (".wav", ".txt"):
        (database / f"{BAD}{suffix}").rename(database / f"{name}{suffix}")
    problem = the_problem(database)
    assert problem.where == str(database / f"{name}.wav")
    assert words in problem.what


def test_misnamed_annotation_alone_is_named_too(database):
    (database / "119_1b1_Ar_Meditron.txt").write_text(ROWS)
    assert "4 parts" in the_problem(database, kept=(GOOD, BAD)).what


def test_recording_that_the_split_does_not_list(database):
    (database / "official_split.txt").write_text(f"{GOOD}\ttrain\n119_1b1_Ar_sc_LittC2SE\ttest")
    problem = the_problem(database)
    assert "does not list it" in problem.what
    assert "119_1b1_Ar_sc_LittC2SE" in problem.hint


def test_split_lines_without_a_recording_are_one_warning(database):
    with (database / "official_split.txt").open("a") as file:
        file.writelines(f"\n{patient}_1b1_Al_sc_Meditron\ttest" for patient in range(110, 120))
    corpus = IcbhiCorpus(database)
    assert len(corpus.recordings) == 2
    assert corpus.recordings_listed == 12
    [problem] = corpus.problems
    assert problem.severity == "warning"
    assert "10 of 12" in problem.what and "110_1b1_Al_sc_Meditron" in problem.what and "and 5 more" in problem.what


def test_a_recording_left_out_is_not_called_absent(database):
    (database / f"{BAD}.wav").write_bytes(b"")
    assert not [p for p in IcbhiCorpus(database).problems if "not here" in p.what]


def test_without_a_split_file_the_published_list_is_used_and_named(database):
    (database / "official_split.txt").unlink()
    corpus = IcbhiCorpus(database)
    assert [r.name for r in corpus.recordings] == [GOOD, BAD]
    assert any("copy of the published list" in p.what for p in corpus.problems)
    assert "published list" in corpus.split_source and corpus.recordings_listed == 920
    official = corpus.splits()["official"]
    assert [official.side(0, side)[0].split("#")[0] for side in ("train", "test")] == [GOOD, BAD]


def foreign(database: Path) -> None:
    """Recordings of patients that no published list knows, without a split file."""
    for name in (GOOD, BAD):
        for path in database.glob(f"{name}.*"):
            path.rename(path.with_name(f"9{path.name}"))
    (database / "official_split.txt").unlink()


def test_foreign_recordings_without_a_split_file_have_the_folds_alone_or_are_refused(database):
    foreign(database)
    (database / "patient_list_foldwise.txt").write_text(f"9{GOOD[:3]} 0\n9{BAD[:3]} 1\n")
    corpus = IcbhiCorpus(database)
    assert len(corpus.recordings) == 2 and list(corpus.splits()) == ["five-fold"]
    (database / "patient_list_foldwise.txt").unlink()
    corpus = IcbhiCorpus(database)
    assert any("is missing: there is no official split" in p.what for p in corpus.problems)
    with pytest.raises(UserError, match="official split file is missing") as error:
        corpus.splits()
    assert "ICBHI_challenge_train_test.txt" in error.value.hint


def test_a_split_that_cannot_be_made_is_an_error_of_the_check_and_stops_a_build_before_it_computes(
    database, tmp_path, monkeypatch
):
    foreign(database)
    (database / "patient_list_foldwise.txt").unlink()
    corpus = IcbhiCorpus(database)
    assert [p.what for p in audit(corpus).problems if p.severity == "error"] == ["the official split file is missing"]
    monkeypatch.setattr("feature_store.build.compute_part", lambda *_: pytest.fail("computed before it was refused"))
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    with pytest.raises(UserError, match="official split file is missing"):
        build(corpus, NAMED["fbank"], store, workers=0)


def test_a_split_list_unlike_the_published_one_is_named(database):
    (database / "official_split.txt").write_text(f"{GOOD}\ttest\n{BAD}\ttest")
    corpus = IcbhiCorpus(database)
    [problem] = corpus.problems
    assert problem.severity == "warning" and "1 recordings are on the other side of the published" in problem.what
    assert GOOD in problem.what and problem.where == str(database / "official_split.txt")
    assert "differs from the published one in 1 rows" in corpus.split_source


def test_the_shipped_split_is_the_published_one(shared_data):
    text = (shared_data / "icbhi" / "metadata" / "official_split.txt").read_text()
    assert published_split() == dict(line.split() for line in text.splitlines())
    sides = list(published_split().values())
    assert (len(sides), sides.count("train"), sides.count("test")) == (920, 539, 381)


def test_missing_fold_list(database):
    (database / "patient_list_foldwise.txt").unlink()
    corpus = IcbhiCorpus(database)
    assert any("five-fold" in p.what for p in corpus.problems)
    assert "five-fold" not in corpus.splits() and "official" in corpus.splits()


def test_patient_without_diagnosis_has_no_label(database):
    (database / "patient_diagnosis.txt").write_text("105\tURTI\n")
    corpus = IcbhiCorpus(database)
    [problem] = corpus.problems
    assert problem.severity == "warning" and "1 patient is not in the list: 119" in problem.what
    table = corpus.cycle_table()
    assert table["diagnosis3"].to_pylist() == [2, 2, None, None]
    assert table["lungsound4"].null_count == 0


@pytest.mark.parametrize(
    ("file", "content", "row", "words"),
    [
        ("official_split.txt", f"{GOOD}\ttrain\n{BAD}\ttest\nx\tvalid\n", 3, "must be train or test"),
        ("official_split.txt", f"{GOOD}\ttrain\n{BAD}\ttest\n{GOOD}\ttest\n", 3, "another value"),
        ("official_split.txt", f"{GOOD}\ttrain\n{BAD}\ttest\n{GOOD}\n", 3, "1 columns"),
        ("patient_list_foldwise.txt", "105 0\n119 1\n999 x\n", 3, "must be a number"),
        ("patient_diagnosis.txt", "105\tURTI\n119\tHealthy\n999\tCOPDD\n", 3, "did you mean 'COPD'"),
    ],
)
def test_bad_row_of_a_list(database, file, content, row, words):
    (database / file).write_text(content)
    problem = the_problem(database, kept=(GOOD, BAD))
    assert problem.where == f"{database / file}, row {row}"
    assert words in problem.what


def test_bad_metadata_row_is_a_warning(database):
    (database / "metadata.txt").write_text("105\tthree\tF\tNA\t19.0\t99.0\tPr\n119\t0.75\tF\tNA\t9.8\t73.0\tAr\n")
    corpus = IcbhiCorpus(database)
    [problem] = corpus.problems
    assert problem.severity == "warning" and "age is 'three'" in problem.what
    assert corpus.demographics["119"].age == 0.75
