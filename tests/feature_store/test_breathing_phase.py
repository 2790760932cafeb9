"""The breathing-phase corpus: both styles of names, the published split with its leak, and what is wrong in a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.audit import audit
from feature_store.datasets import open_corpus
from feature_store.datasets.breathing_phase import BreathingPhaseCorpus
from feature_store.errors import UserError
from tests.support.breathing_clips import breath, write_clips, write_list, write_sound

NAME = "breathing-phase"


def table(corpus: object) -> list[tuple[object, ...]]:
    assert isinstance(corpus, BreathingPhaseCorpus)
    return [(c.cycle_id, c.recording, c.patient, c.start, c.end, c.labels["phase2"]) for c in corpus.cycles()]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> BreathingPhaseCorpus:
    root = shared_data / "breathing_phase"
    if not root.is_dir():
        pytest.skip("no breathing-phase clips among the real data")
    return BreathingPhaseCorpus(root)


# --- names ---


def test_both_styles_of_names_give_one_corpus(tmp_path: Path) -> None:
    with_class = open_corpus(NAME, write_clips(tmp_path / "a", letters=True))
    without = open_corpus(NAME, write_clips(tmp_path / "b", letters=False, suffix=".flac"))
    assert with_class.problems == without.problems == []
    assert table(with_class) == table(without)
    assert table(without)[:2] == [
        ("steth_20180814_09_00_11_000#000", "steth_20180814_09_00_11_000", "steth_20180814_09_00_11", 0.0, 1.0, 0),
        ("steth_20180814_09_00_11_001#000", "steth_20180814_09_00_11_001", "steth_20180814_09_00_11", 0.0, 1.0, 1),
    ]


def test_the_label_comes_of_the_list_and_never_of_the_name(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=4)
    first = "steth_20180814_09_00_11_I_000"
    write_list(root / "train.csv", ("ID", "Target"), [(first, "E")])
    (cycle,) = open_corpus(NAME, root).cycles()
    assert cycle.labels == {"phase2": 1}


def test_a_changed_label_or_length_changes_the_annotation_hash(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=4)

    def first_hash() -> str:
        return open_corpus(NAME, root).recordings[0].annotation_hash

    before = first_hash()
    text = (root / "train.csv").read_text()
    (root / "train.csv").write_text(text.replace("_I_000,I", "_I_000,E", 1))
    relabelled = first_hash()
    write_sound(root / "train" / "steth_20180814_09_00_11_000.wav", breath("I", 0, 9000))
    assert len({before, relabelled, first_hash()}) == 3


# --- splits ---


@pytest.mark.slow
def test_the_random_split_is_the_published_one_and_the_audit_shows_its_leak(real: BreathingPhaseCorpus) -> None:
    report = audit(real)
    assert (report.recordings, report.patients, report.totals["phase2"]) == (
        4000,
        2479,
        {"inhale": 2000, "exhale": 2000},
    )
    sides = {(s.split, s.side): s for s in report.sides}
    assert sides["random", "train"].labels["phase2"] == {"inhale": 1596, "exhale": 1604}
    assert sides["random", "test"].labels["phase2"] == {"inhale": 404, "exhale": 396}
    leaks = {overlap.split: overlap for overlap in report.overlaps}
    assert len(leaks["random"].patients) == 388
    assert sum(row.test_cycles for row in leaks["random"].patients) / 800 == 0.555
    assert all(row.agrees for row in report.published) and len(report.published) == 2
    (twins,) = report.problems  # the contest itself has one clip twice
    assert "steth_20190516_15_56_43_003.flac" in twins.where and "_15_56_43_004" in twins.what


@pytest.mark.slow
def test_the_grouped_split_is_as_large_balanced_and_leaks_nothing(real: BreathingPhaseCorpus) -> None:
    by_id = {cycle.cycle_id: cycle for cycle in real.cycles()}
    split = real.splits()["grouped"]
    train, test = ([by_id[i] for i in split.side(0, side)] for side in ("train", "test"))
    assert len(train) + len(test) == 4000 and abs(len(test) - 800) <= 8
    assert not {c.patient for c in train} & {c.patient for c in test}
    for side in (train, test):
        assert abs(np.mean([c.labels["phase2"] for c in side]) - 0.5) < 0.01
    assert split.hash == real.splits()["grouped"].hash, "the same again"


def test_a_clip_that_is_missing_moves_no_other_to_the_other_side(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=30)
    before = open_corpus(NAME, root).splits()["random"]
    (gone := sorted((root / "train").iterdir())[3]).unlink()
    after = open_corpus(NAME, root).splits()["random"]
    for side in ("train", "test"):
        assert set(after.side(0, side)) == set(before.side(0, side)) - {f"{gone.stem}#000"}


# --- what is wrong ---


def test_a_list_without_a_column_is_refused_with_the_columns_that_it_needs(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=4)
    write_list(root / "train.csv", ("ID", "label"), [("steth_20180814_09_00_11_I_000", "I")])
    with pytest.raises(UserError) as caught:
        open_corpus(NAME, root)
    assert "its columns are ID, label" in str(caught.value) and "ID, Target or file_name, label" in str(caught.value)


def test_blanks_around_names_and_cells_do_not_matter_and_a_short_row_has_no_class(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=4)
    first, second = (f"steth_20180814_09_00_11_{phase}" for phase in ("I_000", "E_001"))
    (root / "train.csv").write_text(f"\ufeffID , Target\n {first} , I \n{second}\n")
    corpus = open_corpus(NAME, root)
    assert [recording.name for recording in corpus.recordings] == ["steth_20180814_09_00_11_000"]
    (problem,) = corpus.problems
    assert problem.where.endswith("train.csv:3") and problem.what == f"the class of '{second}' is ''"


@pytest.mark.parametrize("content", [b"\xffI\x00D\x00", b'ID,Target\n"' + b"a" * 200_000])
def test_a_list_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    root = write_clips(tmp_path, count=4)
    (root / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.csv: (cannot be read as CSV|is not a text file)"):
        open_corpus(NAME, root)


@pytest.mark.parametrize("content", ["", "ID,Target\r\n"])
def test_an_empty_list_is_refused(tmp_path: Path, content: str) -> None:
    root = write_clips(tmp_path, count=4)
    (root / "train.csv").write_text(content)
    with pytest.raises(UserError):
        open_corpus(NAME, root)


def test_missing_lists_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.csv: there is no such list"):
        open_corpus(NAME, tmp_path)
    write_list(tmp_path / "train.csv", ("ID", "Target"), [("a_1", "I")])
    with pytest.raises(UserError, match="there is no folder of clips"):
        open_corpus(NAME, tmp_path)


def test_bad_rows_and_bad_clips_are_left_out_and_named_by_their_row(tmp_path: Path) -> None:
    root = write_clips(tmp_path, count=4)
    good = "steth_20180814_09_00_11_I_000"
    (root / "train" / "s_2.wav").write_bytes(b"")
    write_sound(root / "train" / "s_4.wav", breath("I", 1))
    rows = [(good, "I"), ("nobody_7", "E"), (good.replace("000", "002"), "X"), ("s_2", "I"), ("../s_3", "I")]
    write_list(root / "train.csv", ("ID", "Target"), [*rows, ("s_4", "I"), ("s_I_4", "E")])
    corpus = open_corpus(NAME, root)
    assert [recording.name for recording in corpus.recordings] == ["steth_20180814_09_00_11_000"]
    told = "\n".join(map(str, corpus.problems))
    for row, what in (
        ("train.csv:3", "there is no nobody_7.wav or .flac"),
        ("train.csv:4", "is 'X' (it must be one of I, E)"),
        ("s_2.wav", "the file is empty"),
        ("train.csv:6", "'../s_3' is no clip's name"),
        ("train.csv:7", "appears in the list 2 times"),
        ("train.csv:8", "appears in the list 2 times"),
    ):
        assert any(row in line and what in line for line in told.splitlines()), (row, told)
    assert len(corpus.problems) == 6 and all(problem.severity == "error" for problem in corpus.problems)


# --- the contest ---


def test_a_contest_lists_its_clips_in_the_order_of_its_list(tmp_path: Path) -> None:
    contest = open_corpus(NAME, write_clips(tmp_path, count=6, tested=5)).contest()
    assert contest.columns == ("ID", "Target") and contest.codes == {"phase2": ("I", "E")}
    names = [name for name, _ in contest.clips]
    assert len(names) == 5 and names == sorted(names, reverse=True), "the list was written backwards"
    assert all(path.name == name and path.parent.name == "test" for name, path in contest.clips)


@pytest.mark.parametrize(
    ("columns", "rows", "what"),
    [
        (("name",), [("a_1.wav",)], "its columns are name"),
        (("ID",), [("a_1.wav",)], "there is no clip of 'a_1.wav'"),
        (("ID",), [("a_1.wav",), ("a_1.wav",)], "is in row 2"),
        (("ID",), [("/etc/passwd",)], "is no clip's name"),
        (("ID",), [], "lists no clip"),
    ],
)
def test_a_bad_list_of_a_contest_is_refused(tmp_path: Path, columns: tuple, rows: list, what: str) -> None:
    root = write_clips(tmp_path, count=6, tested=1)
    write_list(root / "test.csv", columns, rows)
    with pytest.raises(UserError, match=what):
        open_corpus(NAME, root).contest()


@pytest.mark.slow
def test_a_corpus_without_a_contest_says_so(synthetic_corpus: Path) -> None:
    with pytest.raises(UserError, match="nothing to submit"):
        open_corpus("icbhi", synthetic_corpus).contest()
