"""The contest of pathological voices: its lists, its medical table, its folds, and what is wrong in a corpus."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from feature_store.build import build
from feature_store.datasets import aicup_table as table
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features.mfcc import MfccSpec
from feature_store.store import FeatureStore
from tests.support.voice_clips import COLUMNS, PLACES, row, write_rows, write_sound, write_voices

NAME = "aicup-voice"
SPEC = MfccSpec(table=44)


def encoded(**changes: str) -> tuple[dict[str, float], tuple[str, ...]]:
    cells = {column.strip(): value for column, value in row("a", 1, 3).items()}
    numbers, doubts = table.encode(cells | changes)
    return dict(zip(table.NAMES, numbers, strict=True)), doubts


@pytest.mark.spec("F11")
def test_the_medical_table_gives_44_numbers_in_the_order_of_the_source() -> None:
    numbers, doubts = encoded(Sex="2", Age="75", **{"Voice handicap index - 10": "30", "Smoking": "3"})
    assert len(numbers) == 44 and not doubts
    names = list(numbers)
    assert names[:2] == ["Sex", "Age"] and names[19:24] == [
        "Voice handicap index - 10",
        *(f"Smoking={n}" for n in range(4)),
    ]
    assert [name.split("=")[0] for name in names[20:]] == (
        ["Smoking"] * 4 + ["frequency"] * 4 + ["Onset of dysphonia"] * 5 + ["Noise at work"] * 3
        + ["Diurnal pattern"] * 4 + ["Occupational vocal demand"] * 4
    )  # fmt: skip
    assert (numbers["Sex"], numbers["Age"], numbers["Voice handicap index - 10"]) == (1.0, 1.5, 0.75)
    assert [numbers[f"Smoking={n}"] for n in range(4)] == [0, 0, 0, 1]


@pytest.mark.spec("F11")
@pytest.mark.parametrize("column", list(table.CATEGORIES))
def test_every_code_of_a_category_has_a_column_of_its_own(column: str) -> None:
    for code in table.CATEGORIES[column]:
        numbers, doubts = encoded(**{column.strip(): str(code)})
        own = {name: value for name, value in numbers.items() if name.startswith(f"{column.strip()}=")}
        assert own.pop(f"{column.strip()}={code}") == 1 and not any(own.values()) and not doubts


@pytest.mark.spec("F11")
@pytest.mark.parametrize("code", ("9", "", "often", "1.5", "nan"))
def test_an_unknown_or_missing_category_is_none_of_the_known_and_told(code: str) -> None:
    numbers, doubts = encoded(Smoking=code)
    assert len(numbers) == 44 and not any(numbers[f"Smoking={n}"] for n in range(4))
    assert len(doubts) == 1 and "Smoking" in doubts[0]


@pytest.mark.spec("F11")
@pytest.mark.parametrize("column", ("PPD", "Voice handicap index - 10"))
def test_what_the_contest_leaves_empty_is_zero_and_nothing_to_tell(column: str) -> None:
    numbers, doubts = encoded(**{column: ""})
    assert numbers[column] == 0 and not doubts


def test_a_missing_age_is_zero_and_told() -> None:
    numbers, doubts = encoded(Age="")
    assert numbers["Age"] == 0 and "Age" in doubts[0]


def test_a_corpus_is_read_with_its_classes_normal_first(tmp_path: Path) -> None:
    corpus = open_corpus(NAME, write_voices(tmp_path, count=10))
    assert not corpus.problems and corpus.recordings_listed == 10
    labels = {recording.name: recording.cycles[0].labels["voice5"] for recording in corpus.recordings}
    assert [labels[f"0A{n:05x}"] for n in range(5)] == [1, 2, 3, 4, 0]  # codes 1 to 5
    assert all(len(recording.table) == 44 for recording in corpus.recordings)


def test_blanks_in_the_folders_names_are_understood(tmp_path: Path) -> None:
    write_voices(tmp_path, count=5)
    (tmp_path / "Training_Dataset" / "training_datalist.csv").rename(
        tmp_path / "Training_Dataset" / "training datalist.csv"
    )
    (tmp_path / "Training_Dataset").rename(tmp_path / "Training Dataset")
    assert len(open_corpus(NAME, tmp_path).recordings) == 5


def test_the_store_keeps_the_table_beside_each_clip_and_reads_it_again_when_it_changes(tmp_path: Path) -> None:
    root = write_voices(tmp_path / "corpus", count=5)
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(open_corpus(NAME, root), SPEC, store, workers=0)
    features = store.load(NAME, SPEC.feature_id, tmp_path / "cache")
    known = {recording.cycles[0].cycle_id: recording.table for recording in open_corpus(NAME, root).recordings}
    wanted = np.array([known[cycle_id] for cycle_id in features.cycle_ids], np.float32)
    np.testing.assert_array_equal(features.scalars, wanted)

    write_voices(root, count=5, change={2: lambda cells: cells.update(Age="99")})
    again = build(open_corpus(NAME, root), SPEC, store, workers=0)
    assert (again.computed, again.reused) == (1, 4)


@pytest.mark.spec("F15")
def test_a_second_build_computes_nothing(tmp_path: Path) -> None:
    corpus = open_corpus(NAME, write_voices(tmp_path / "corpus", count=5))
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(corpus, SPEC, store, workers=0)
    assert build(corpus, SPEC, store, workers=0).computed == 0


@pytest.mark.slow
def test_a_feature_with_a_table_is_refused_for_a_corpus_without_one(synthetic_corpus: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    with pytest.raises(UserError) as error:
        build(open_corpus("icbhi", synthetic_corpus), SPEC, store, workers=0, strict=True)
    assert "takes 44 numbers beside each sound, and there are 0" in str(error.value)


@pytest.mark.slow
def test_four_seeded_folds_test_every_clip_once_with_the_classes_alike(tmp_path: Path) -> None:
    corpus = open_corpus(NAME, write_voices(tmp_path, count=40))
    split = corpus.splits()["four-fold"]
    assert split.hash == corpus.splits()["four-fold"].hash and split.folds() == [0, 1, 2, 3]
    label = {cycle.cycle_id: cycle.labels["voice5"] for cycle in corpus.cycles()}
    tested = [cycle_id for fold in split.folds() for cycle_id in split.side(fold, "test")]
    assert sorted(tested) == sorted(label)
    for fold in split.folds():
        train, test = split.side(fold, "train"), split.side(fold, "test")
        assert not set(train) & set(test)
        assert np.bincount([label[c] for c in test]).tolist() == [2] * 5


@pytest.mark.spec("N3")
def test_the_contests_clips_are_those_of_the_public_then_the_private_list(tmp_path: Path) -> None:
    contest = open_corpus(NAME, write_voices(tmp_path, count=5, tested=6)).contest()
    assert [name for name, _ in contest.clips] == [f"0A{n:05x}" for n in range(5, 11)]
    assert [path.parent.name for _, path in contest.clips] == ["test_data_public"] * 3 + ["test_data_private"] * 3
    assert contest.columns is None and contest.codes == {"voice5": ("5", "1", "2", "3", "4")}
    assert {name: len(numbers) for name, numbers in contest.tables.items()} == {name: 44 for name, _ in contest.clips}


# --- bad input ---


@pytest.mark.parametrize("column", ("Age", "Smoking", "Onset of dysphonia ", "Disease category", "ID"))
def test_a_list_without_a_column_is_refused_by_its_name(tmp_path: Path, column: str) -> None:
    root = write_voices(tmp_path, count=5)
    path = root / PLACES["Training"][0] / PLACES["Training"][1]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    write_rows(path, [name for name in COLUMNS if name != column], rows)
    with pytest.raises(UserError, match=f"has no column '{column}' .1 missing"):
        open_corpus(NAME, root)


def test_an_unknown_category_is_a_warning_at_its_row_and_the_clip_stays(tmp_path: Path) -> None:
    root = write_voices(tmp_path, count=5, change={1: lambda cells: cells.update(Smoking="7")})
    corpus = open_corpus(NAME, root)
    assert len(corpus.recordings) == 5
    (problem,) = corpus.problems
    assert problem.severity == "warning" and problem.where.endswith("training_datalist.csv:3") and "'7'" in problem.what


@pytest.mark.parametrize(
    ("change", "told"),
    (
        (lambda cells: cells.update({"Disease category": "6"}), "is '6'"),
        (lambda cells: cells.update({"Disease category": ""}), "is ''"),
        (lambda cells: cells.update(ID="nobody"), "there is no nobody.wav"),
        (lambda cells: cells.update(ID="0A00000"), "appears in the list 2 times"),
    ),
)
def test_a_row_that_cannot_be_used_is_left_out_and_named(tmp_path: Path, change, told: str) -> None:
    corpus = open_corpus(NAME, write_voices(tmp_path, count=5, change={3: change}))
    assert told in str(corpus.problems[0]) and corpus.problems[0].severity == "error"
    assert "0A00003" not in [recording.name for recording in corpus.recordings]
    assert len(corpus.recordings) == (3 if "2 times" in told else 4)


def test_an_id_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    root = write_voices(tmp_path, count=5, change={3: lambda cells: cells.update(ID="../secret")})
    with pytest.raises(UserError, match="is no clip's ID"):
        open_corpus(NAME, root)


def test_silent_and_very_short_clips_give_finite_features(tmp_path: Path) -> None:
    root = write_voices(tmp_path / "corpus", count=5)
    clips = root / "Training_Dataset" / "training_voice_data"
    write_sound(clips / "0A00000.wav", np.zeros(44100, np.float32))
    write_sound(clips / "0A00001.wav", np.full(300, 0.3, np.float32))
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    report = build(open_corpus(NAME, root), SPEC, store, workers=0)
    assert report.cycles == 5 and not report.failed
    assert np.isfinite(store.load(NAME, SPEC.feature_id, tmp_path / "cache").values).all()


def test_a_contest_list_with_an_id_that_has_no_file_is_refused(tmp_path: Path) -> None:
    root = write_voices(tmp_path, count=5, tested=2)
    (root / "Private_Testing_Dataset" / "test_data_private" / "0A00006.wav").unlink()
    with pytest.raises(UserError, match="there is no clip of '0A00006'"):
        open_corpus(NAME, root).contest()


def test_a_folder_without_the_contests_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such list with its clips"):
        open_corpus(NAME, tmp_path)
