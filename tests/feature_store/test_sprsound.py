"""SPRSound's format: tasks of events and of recordings, its published sides, its Score, and broken annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sklearn.metrics import confusion_matrix

from feature_store.audio import decode
from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import FbankSpec
from feature_store.splits import patients_on_both_sides
from feature_store.store import FeatureStore
from workers.config import ExperimentConfig
from workers.data import task_classes
from workers.evaluation import evaluate
from workers.fold import FoldRun, Site, run_fold

RATE, SECONDS = 8000, 4.0
FOLDERS = {
    "train": ("BioCAS2022/train2022_json", "BioCAS2022/train2022_wav"),
    "inter": ("BioCAS2022/test2022_json/inter_test_json", "BioCAS2022/test2022_wav"),
    "intra": ("BioCAS2022/test2022_json/intra_test_json", "BioCAS2022/test2022_wav"),
    "later": ("BioCAS2023/test2023_json", "BioCAS2023/test2023_wav"),
    "2025": ("BioCAS2025/test2025_json", "BioCAS2025/test2025_wav"),
}
KINDS = ("Normal", "Wheeze", "Normal", "Coarse Crackle", "Wheeze+Crackle")
RECORDS = ("Normal", "CAS", "Normal", "DAS", "CAS & DAS", "Poor Quality")


def write(root: Path, side: str, patient: int, number: int, name: str | None = None, **changes: Any) -> Path:
    """One made-up recording of 4 s with two events, or with `changes` of its annotation; returns the annotation."""
    annotations, sounds = (root / folder for folder in FOLDERS[side])
    for folder in (annotations, sounds):
        folder.mkdir(parents=True, exist_ok=True)
    name = name or f"{patient}_3.{number % 10}_{patient % 2}_p{number % 4 + 1}_{number}"
    kind = KINDS[number % len(KINDS)]
    time = np.arange(int(SECONDS * RATE)) / RATE
    sound = 0.02 * np.random.default_rng(number).normal(size=len(time))
    sound += 0.2 * np.sin(2 * np.pi * (200 if kind == "Normal" else 700) * time)
    soundfile.write(sounds / f"{name}.wav", sound, RATE, subtype="PCM_16")
    events = [{"start": "250", "end": "1750", "type": kind}, {"start": "2000", "end": "3900", "type": "Normal"}]
    content = {"record_annotation": RECORDS[number % len(RECORDS)], "event_annotation": events, **changes}
    path = annotations / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def corpus_at(root: Path) -> Path:
    """Twelve children in training, four others and two of the same in 2022's test side, one in 2023's."""
    for number in range(24):
        write(root, "train", 65000000 + number // 2, number)
    for number in range(24, 32):
        write(root, "inter", 65000100 + number // 2, number)
    for number in range(32, 36):
        write(root, "intra", 65000000 + number % 2, number)
    write(root, "later", 66000000, 36)
    return root


def test_events_and_whole_recordings_are_cycles_with_labels_of_their_own_tasks(tmp_path: Path) -> None:
    write(tmp_path, "train", 65000000, 3)  # Coarse Crackle; DAS
    corpus = open_corpus("sprsound", tmp_path)
    assert not corpus.problems
    (recording,) = corpus.recordings
    assert (recording.patient, recording.location) == ("65000000", "p4")
    first, second, whole = recording.cycles
    assert (first.start, first.end) == (0.25, 1.75) and (whole.start, whole.end) == (0.0, SECONDS)
    assert first.labels == {"event2": 1, "event7": 4, "record3": None, "record5": None}
    assert second.labels == {"event2": 0, "event7": 0, "record3": None, "record5": None}
    assert whole.labels == {"event2": None, "event7": None, "record3": 1, "record5": 2}
    assert corpus.classes["event7"][4] == "coarse_crackle" and corpus.classes["record5"][2] == "das"


@pytest.mark.parametrize(("record", "labels"), (("Normal", (0, 0)), ("CAS & DAS", (1, 3)), ("Poor Quality", (2, 4))))
def test_a_recordings_type_gives_three_and_five_classes(tmp_path: Path, record: str, labels: tuple[int, int]) -> None:
    write(tmp_path, "train", 65000000, 1, record_annotation=record, event_annotation=[])
    (recording,) = open_corpus("sprsound", tmp_path).recordings
    (whole,) = recording.cycles
    assert (whole.labels["record3"], whole.labels["record5"]) == labels


def test_times_may_be_numbers_and_the_record_key_the_one_of_the_readme(tmp_path: Path) -> None:
    path = write(tmp_path, "train", 65000000, 1)
    events = [{"start": 342, "end": 2515, "type": "Normal"}]
    path.write_text(json.dumps({"recording_annotation": "Normal", "event_annotation": events}))
    corpus = open_corpus("sprsound", tmp_path)
    assert not corpus.problems and corpus.recordings[0].cycles[0].end == 2.515


def test_sex_and_age_are_columns_as_the_names_have_them(tmp_path: Path) -> None:
    write(tmp_path, "train", 0, 1, name="65058931_3.4_1_p2_1086")
    write(tmp_path, "train", 0, 2, name="00014365_14_0_p4_7545")
    table = open_corpus("sprsound", tmp_path).cycle_table()
    who = set(zip(*(table[column].to_pylist() for column in ("patient", "location", "sex", "age")), strict=True))
    assert who == {("65058931", "p2", "F", 3.4), ("00014365", "p4", "M", 14.0)}


def test_later_years_have_events_alone_further_places_and_children_without_a_number(tmp_path: Path) -> None:
    write(tmp_path, "train", 65000000, 1)
    events = {"event_annotation": [{"start": "553", "end": "2535", "type": "Wheeze"}]}
    for name in ("00015105_5.3_0_p1_25271", "_5.3_0_p8_34877", "_2.1_1_p5_34878"):
        write(tmp_path, "2025", 0, 2, name=name).write_text(json.dumps(events))
    corpus = open_corpus("sprsound", tmp_path)
    assert not corpus.problems
    found = {recording.name: recording for recording in corpus.recordings}
    unnamed = found["_5.3_0_p8_34877"]
    assert (unnamed.patient, unnamed.location) == ("_5.3_0_p8_34877", "p8"), "it shares no child with another"
    (cycle,) = unnamed.cycles
    assert cycle.labels == {"event2": 1, "event7": 2, "record3": None, "record5": None}
    splits = corpus.splits()
    assert list(splits) == ["later-2025"] and len(splits["later-2025"].side(0, "test")) == 3


def test_a_sound_whose_header_contradicts_itself_is_read_all_the_same(tmp_path: Path) -> None:
    """The published files have byte rates and block sizes that do not fit their format."""
    path = write(tmp_path, "train", 65000000, 1)
    sound = tmp_path / FOLDERS["train"][1] / f"{path.stem}.wav"
    content = bytearray(sound.read_bytes())
    content[28:34] = (32000).to_bytes(4, "little") + (4).to_bytes(2, "little")
    before, _ = decode(sound)
    sound.write_bytes(content)
    after, rate = decode(sound)
    assert rate == RATE and np.array_equal(before, after)
    assert not open_corpus("sprsound", tmp_path).problems


def test_the_published_sides_are_splits_and_only_intra_has_children_on_both(tmp_path: Path) -> None:
    corpus = open_corpus("sprsound", corpus_at(tmp_path))
    splits, cycles = corpus.splits(), corpus.cycle_table()
    recordings = {
        name: {side: len({c.split("#")[0] for c in split.side(0, side)}) for side in ("train", "test")}
        for name, split in splits.items()
    }
    assert recordings == {
        "official": {"train": 24, "test": 12},
        "inter": {"train": 24, "test": 8},
        "intra": {"train": 24, "test": 4},
        "later": {"train": 24, "test": 1},
    }
    assert patients_on_both_sides(splits["inter"], cycles) == {0: []}
    assert patients_on_both_sides(splits["intra"], cycles) == {0: ["65000000", "65000001"]}


def test_a_part_of_the_folders_has_the_splits_of_that_part(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, "train", 65000000 + number, number)
    write(tmp_path, "later", 66000000, 9)
    assert list(open_corpus("sprsound", tmp_path).splits()) == ["later"]


def test_the_score_is_the_mean_of_average_and_harmonic_mean() -> None:
    labels = np.array([0] * 10 + [1] * 4 + [2] * 4)
    predicted = np.array([0] * 9 + [1] + [1] * 3 + [0] + [1] * 3 + [2])  # Sp 90 %, Se (3 + 1) / 8 = 50 %
    score = evaluate(np.eye(3)[predicted], labels).score_for("sprsound")
    assert (score.specificity, score.sensitivity) == (90.0, 50.0)
    assert score.score == pytest.approx((70.0 + 2 * 90 * 50 / 140) / 2)
    assert evaluate(np.eye(3)[predicted], labels).value("sprsound") == score.score


def test_poor_quality_is_in_neither_rate_of_the_record_score() -> None:
    """By sums over the confusion matrix with its classes in another order: normal, poor quality, then adventitious."""
    rng = np.random.default_rng(7)
    labels, predicted = rng.choice(5, 734, p=[0.6, 0.1, 0.1, 0.05, 0.15]), rng.integers(0, 5, 734)
    predicted = np.where(rng.random(734) < 0.6, labels, predicted)
    order = [0, 4, 1, 2, 3]
    matrix = confusion_matrix(labels, predicted, labels=order)
    sp, se = matrix[0, 0] / matrix[0].sum(), matrix.diagonal()[2:].sum() / matrix[2:].sum()
    score = evaluate(np.eye(5)[predicted], labels).score_for("sprsound_record")
    assert (score.specificity, score.sensitivity) == pytest.approx((100 * sp, 100 * se))
    assert score.score == pytest.approx(100 * ((sp + se) / 2 + 2 * sp * se / (sp + se)) / 2)
    assert evaluate(np.eye(5)[predicted], labels).score_for("sprsound").sensitivity != score.sensitivity


@pytest.mark.slow
def test_tasks_of_records_are_ranked_without_poor_quality_and_those_of_events_cannot_be(tmp_path: Path) -> None:
    corpus, store = open_corpus("sprsound", corpus_at(tmp_path / "corpus")), tmp_path / "store"
    opened = FeatureStore.open(str(store), create=True)
    build(corpus, FbankSpec(seconds=2.0, n_mels=32, shift_ms=40.0), opened, workers=0)
    assert [opened.metric("sprsound", task) for task in corpus.classes] == ["sprsound"] * 2 + ["sprsound_record"] * 2
    content = {"dataset": "sprsound", "model": {"name": "cnn6"}, "objective": {"name": "ce"}, "feature": "fbank"}
    content["training"] = {"metric": "sprsound_record"}
    for task in ("record3", "record5"):
        assert task_classes(opened, ExperimentConfig.model_validate({**content, "task": task}))[-1] == "poor_quality"
    with pytest.raises(UserError, match="does not have last"):
        task_classes(opened, ExperimentConfig.model_validate({**content, "task": "event7"}))


def test_a_model_that_calls_everything_normal_has_half_the_average_as_its_score() -> None:
    metrics = evaluate(np.tile([1.0, 0.0], (4, 1)), np.array([0, 0, 1, 1]))
    assert metrics.value("sprsound") == 25.0  # average 50, harmonic mean 0


@pytest.mark.slow
@pytest.mark.parametrize(("task", "seen"), (("event2", 2), ("record5", 1)))
def test_a_training_on_a_task_sees_its_own_kind_of_cycle(tmp_path: Path, task: str, seen: int) -> None:
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    spec = FbankSpec(sample_rate=8000, seconds=2.0, n_mels=16, shift_ms=40.0)
    build(open_corpus("sprsound", corpus_at(tmp_path / "corpus")), spec, store, workers=0)
    content = {
        "dataset": "sprsound",
        "task": task,
        "feature": spec.model_dump(),
        "model": {"name": "crnn", "hidden": 4, "layers": 1},
        "objective": {"name": "ce"},
        "augment": {"policy": "none"},
        "training": {"epochs": 1, "metric": "sprsound", "protocol": "validation"},
    }
    site = Site(store.uri, str(tmp_path / "results"), str(tmp_path / "cache"), str(tmp_path), device="cpu")
    result = run_fold(FoldRun(ExperimentConfig.parse(content), "inter", 0, 0), site)
    chosen = result.protocols["validation"]
    assert chosen.test.n == 8 * seen and result.data.train + result.data.validation == 24 * seen
    assert chosen.validation is not None
    assert result.epochs[0]["validation"]["score"] == pytest.approx(chosen.validation.value("sprsound"))


# --- bad input ---


@pytest.mark.parametrize(
    ("content", "told"),
    (
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[]", "has no list event_annotation"),
        ('{"record_annotation": "Normal", "event_annotation": {}}', "has no list event_annotation"),
        ('{"event_annotation": []}', "has neither a record_annotation nor an event"),
        ('{"record_annotation": null, "event_annotation": []}', "its record_annotation is None"),
        ('{"record_annotation": "Snore", "event_annotation": []}', "its record_annotation is 'Snore'"),
        ('{"record_annotation": ["CAS"], "event_annotation": []}', "its record_annotation is"),
    ),
)
def test_a_broken_annotation_is_named_and_its_recording_left_out(tmp_path: Path, content: str, told: str) -> None:
    write(tmp_path, "train", 65000000, 1)
    broken = write(tmp_path, "train", 65000000, 2)
    broken.write_text(content)
    corpus = open_corpus("sprsound", tmp_path)
    (problem,) = corpus.problems
    assert problem.severity == "error" and problem.where == str(broken) and told in problem.what
    assert len(corpus.recordings) == 1 and corpus.recordings_listed == 2


@pytest.mark.parametrize(
    ("event", "told"),
    (
        ({"start": "100", "end": "900", "type": "Cough"}, "event 1 is of type 'Cough'"),
        ({"start": "100", "end": "900"}, "event 1 is of type None"),
        ({"start": "100", "type": "Normal"}, "event 1 has no start and end"),
        ({"start": "soon", "end": "900", "type": "Normal"}, "event 1 has no start and end"),
        ({"start": "-5", "end": "100", "type": "Normal"}, "event 1 runs from -0.005"),
        ({"start": "0", "end": "NaN", "type": "Normal"}, "event 1 runs from 0 to nan s"),
        ({"start": "0", "end": "inf", "type": "Normal"}, "event 1 runs from 0 to inf s"),
        ({"start": "4000", "end": "4100", "type": "Normal"}, "event 1 begins at 4 s, the recording ends at 4 s"),
        ("event", "event 1 is of type 'event'"),
    ),
)
def test_an_event_that_is_none_is_named_by_its_number(tmp_path: Path, event: object, told: str) -> None:
    write(tmp_path, "train", 65000000, 1, event_annotation=[event])
    corpus = open_corpus("sprsound", tmp_path)
    assert not corpus.recordings and told in corpus.problems[0].what and corpus.problems[0].severity == "error"


def test_events_that_overlap_the_end_are_cut_there_and_told(tmp_path: Path) -> None:
    event = {"start": "3000", "end": "4500", "type": "Wheeze"}
    write(tmp_path, "train", 65000000, 1, event_annotation=[event])
    corpus = open_corpus("sprsound", tmp_path)
    assert corpus.recordings[0].cycles[0].end == SECONDS
    (problem,) = corpus.problems
    assert problem.severity == "warning" and "1 of 1 events end after the recording (4.5 s of 4 s)" in problem.what


@pytest.mark.parametrize("end", ("100", "900"))
def test_an_event_that_does_not_end_after_it_begins_is_left_out_alone(tmp_path: Path, end: str) -> None:
    events = [{"start": "900", "end": end, "type": "Wheeze"}, {"start": "1000", "end": "2000", "type": "Normal"}]
    write(tmp_path, "train", 65000000, 1, event_annotation=events)
    corpus = open_corpus("sprsound", tmp_path)
    assert [(cycle.start, cycle.end) for cycle in corpus.recordings[0].cycles] == [(1.0, 2.0), (0.0, SECONDS)]
    (problem,) = corpus.problems
    assert problem.severity == "warning" and "1 of 2 events do not end after they begin" in problem.what


@pytest.mark.parametrize("name", ("65058931_3.4_2_p2_1086", "65058931_3.4_1_p9_1086", "65058931_3.4_1_1086", "notes"))
def test_a_file_whose_name_is_no_recordings_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, "train", 65000000, 1)
    path = write(tmp_path, "train", 65000000, 2, name=name)
    corpus = open_corpus("sprsound", tmp_path)
    (problem,) = corpus.problems
    assert problem.severity == "error" and problem.where == str(path) and "the name is not" in problem.what
    assert len(corpus.recordings) == 1


def test_sounds_without_an_annotation_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "train", 65000000, 1)
    alone = write(tmp_path, "inter", 65000001, 2)
    alone.unlink()
    (problem,) = open_corpus("sprsound", tmp_path).problems
    assert problem.severity == "warning"
    assert problem.what == f"sounds without an annotation: 1, the first is {alone.stem}.wav"


@pytest.mark.parametrize("level", (0.0, 0.25), ids=("silent", "constant"))
def test_sounds_that_say_nothing_and_events_shorter_than_a_frame_have_finite_features(
    tmp_path: Path, level: float
) -> None:
    path = write(tmp_path, "train", 65000000, 1, event_annotation=[{"start": "5", "end": "6", "type": "Normal"}])
    sound = np.full(int(SECONDS * RATE), level)
    soundfile.write(tmp_path / FOLDERS["train"][1] / f"{path.stem}.wav", sound, RATE, subtype="PCM_16")
    spec = FbankSpec(sample_rate=8000, seconds=2.0, n_mels=16, shift_ms=40.0)
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    report = build(open_corpus("sprsound", tmp_path), spec, store, workers=0)
    assert report.cycles == 2 and not report.failed
    assert np.isfinite(store.load("sprsound", spec.feature_id, tmp_path / "cache").values).all()


def test_an_annotation_without_its_sound_or_standing_twice_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "train", 65000000, 1)
    write(tmp_path, "train", 65000000, 2)
    twin = write(tmp_path, "inter", 65000000, 2)
    (tmp_path / FOLDERS["train"][1] / f"{path.stem}.wav").unlink()
    corpus = open_corpus("sprsound", tmp_path)
    told = sorted(problem.what for problem in corpus.problems)
    assert told == [f"there is another annotation of this recording, {twin}", f"there is no {path.stem}.wav"]
    assert [recording.annotation for recording in corpus.recordings] == [twin], "the test side keeps it"


def test_a_copy_of_a_whole_release_is_no_second_annotation(tmp_path: Path) -> None:
    """The makers' repository has had some folders twice."""
    write(tmp_path, "train", 65000000, 1)
    write(tmp_path / "releases", "train", 65000000, 1)
    changed = write(tmp_path / "releases", "train", 65000000, 2)
    corpus = open_corpus("sprsound", tmp_path)
    assert not corpus.problems and (len(corpus.recordings), corpus.recordings_listed) == (2, 2)
    write(tmp_path, "train", 65000000, 2, record_annotation="CAS")
    (problem,) = open_corpus("sprsound", tmp_path).problems
    assert problem.severity == "error" and problem.where == str(changed)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(UserError, match="there is no annotation of SPRSound"):
        open_corpus("sprsound", tmp_path)
