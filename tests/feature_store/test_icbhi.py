"""The ICBHI adapter against the counts of the real annotations, in every layout and spelling."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_store.audit import audit
from feature_store.datasets import CORPORA, Corpus, Recording, open_corpus
from feature_store.datasets.audio_header import read_header
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.datasets.icbhi_format import DEVICES, diagnosis_labels, lungsound_labels, parse_stem
from feature_store.errors import UserError

CHALLENGE_NAMES = {
    "official_split.txt": "ICBHI_challenge_train_test.txt",
    "patient_diagnosis.txt": "ICBHI_Challenge_diagnosis.txt",
    "patient_list_foldwise.txt": "patient_list_foldwise.txt",
    "filename_differences.txt": "filename_differences.txt",
    "metadata.txt": "metadata.txt",
}


@pytest.fixture(scope="module")
def corpus(shared_data: Path) -> IcbhiCorpus:
    """All 920 annotations, without audio."""
    return IcbhiCorpus(shared_data / "icbhi" / "all_920_annotations")


def class_counts(corpus: Corpus, cycle_ids: list[str], task: str) -> list[int]:
    label = {cycle.cycle_id: cycle.labels[task] for cycle in corpus.cycles()}
    counts = Counter(label[c] for c in cycle_ids)
    return [counts[i] for i in range(len(corpus.classes[task]))]


def sizes(corpus: Corpus, cycle_ids: list[str]) -> tuple[int, int, int]:
    cycles = {c.cycle_id: c for c in corpus.cycles()}
    picked = [cycles[c] for c in cycle_ids]
    return len({c.patient for c in picked}), len({c.recording for c in picked}), len(picked)


@pytest.mark.slow
def test_annotations_alone_give_every_recording_and_say_that_audio_is_absent(corpus):
    summary = {"recordings": 920, "recordings_listed": 920, "patients": 126, "cycles": 6898, "synthetic": False}
    assert corpus.summary() == summary
    assert all(recording.audio is None for recording in corpus.recordings)
    assert not corpus.has_audio
    assert [p.severity for p in corpus.problems] == ["warning"]
    assert "no audio" in corpus.problems[0].what


@pytest.mark.spec("D2", "D5")
def test_class_counts_of_the_whole_database(corpus):
    everything = [c.cycle_id for c in corpus.cycles()]
    assert class_counts(corpus, everything, "lungsound4") == [3642, 1864, 886, 506]
    assert class_counts(corpus, everything, "lungsound2") == [3642, 6898 - 3642]


@pytest.mark.spec("D1")
def test_devices_of_the_whole_database(corpus):
    devices = Counter(recording.device for recording in corpus.recordings)
    assert devices == {"AKGC417L": 646, "LittC2SE": 87, "Meditron": 127, "Litt3200": 60}


@pytest.mark.spec("D6", "D7", "D8", "D9")
@pytest.mark.parametrize(
    ("side", "size", "lungsound4", "lungsound2", "diagnosis3", "diagnosis2"),
    [
        ("train", (79, 539, 4142), [2063, 1215, 501, 363], [2063, 2079], [147, 3433, 562], [147, 3995]),
        ("test", (49, 381, 2756), [1579, 649, 385, 143], [1579, 1177], [175, 2423, 158], [175, 2581]),
    ],
)
def test_official_split_has_the_published_counts(corpus, side, size, lungsound4, lungsound2, diagnosis3, diagnosis2):
    cycles = corpus.splits()["official"].side(0, side)
    assert sizes(corpus, cycles) == size
    assert class_counts(corpus, cycles, "lungsound4") == lungsound4
    assert class_counts(corpus, cycles, "lungsound2") == lungsound2
    assert class_counts(corpus, cycles, "diagnosis3") == diagnosis3
    assert class_counts(corpus, cycles, "diagnosis2") == diagnosis2


@pytest.mark.spec("D13")
def test_devices_of_the_official_split(corpus):
    expected = {
        "train": {"AKGC417L": (2510, 17), "LittC2SE": (594, 23), "Litt3200": (41, 2), "Meditron": (997, 41)},
        "test": {"AKGC417L": (1836, 16), "LittC2SE": (0, 0), "Litt3200": (461, 10), "Meditron": (459, 24)},
    }
    cycles = {c.cycle_id: c for c in corpus.cycles()}
    official = corpus.splits()["official"]
    for side, devices in expected.items():
        picked = [cycles[c] for c in official.side(0, side)]
        for device in DEVICES:
            of_device = [c for c in picked if c.device == device]
            assert (len(of_device), len({c.patient for c in of_device})) == devices[device], (side, device)


@pytest.mark.spec("D12")
@pytest.mark.parametrize(
    ("fold", "size", "classes"),
    [
        (0, (26, 512, 3455), [1566, 1198, 349, 342]),
        (1, (25, 61, 704), [457, 87, 104, 56]),
        (2, (25, 50, 536), [403, 107, 22, 4]),
        (3, (25, 99, 759), [441, 81, 205, 32]),
        (4, (25, 198, 1444), [775, 391, 206, 72]),
    ],
)
def test_five_folds_have_the_published_counts(corpus, fold, size, classes):
    split = corpus.splits()["five-fold"]
    assert sizes(corpus, split.side(fold, "test")) == size
    assert class_counts(corpus, split.side(fold, "test"), "lungsound4") == classes
    assert len(split.side(fold, "train")) == 6898 - size[2]
    assert not set(split.side(fold, "train")) & set(split.side(fold, "test"))


@pytest.mark.spec("D11")
def test_variants_without_patients_on_both_sides(corpus):
    splits = corpus.splits()
    official, no_overlap, by_patient = (splits[n] for n in ("official", "official-no-overlap", "official-patient-test"))
    assert [len(no_overlap.side(0, s)) for s in ("train", "test")] == [4025, 2756]
    assert [len(by_patient.side(0, s)) for s in ("train", "test")] == [4025, 2873]
    dropped = set(official.side(0, "train")) - set(no_overlap.side(0, "train"))
    assert {c[:3] for c in dropped} == {"156", "218"}
    assert {c[:3] for c in by_patient.side(0, "train")}.isdisjoint({c[:3] for c in by_patient.side(0, "test")})


@pytest.mark.spec("D10")
def test_patient_expanded_split_leaks_as_the_system_that_made_it(corpus):
    split = corpus.splits()["compat-official-patient-expanded"]
    train, test = split.side(0, "train"), split.side(0, "test")
    assert (len(train), len(test)) == (4262, 2873)
    assert (sizes(corpus, train)[1], sizes(corpus, test)[1]) == (551, 394)
    both = set(train) & set(test)
    assert (len({c.split("#")[0] for c in both}), len(both)) == (25, 237)


@pytest.mark.spec("D2")
def test_cycles_are_the_rows_of_their_annotation(corpus, shared_data):
    name = "156_2b3_Al_mc_AKGC417L"
    rows = np.loadtxt(shared_data / "icbhi" / "all_920_annotations" / f"{name}.txt", ndmin=2)
    recording = next(r for r in corpus.recordings if r.name == name)
    assert [c.cycle_id for c in recording.cycles] == [f"{name}#{i:03d}" for i in range(len(rows))]
    np.testing.assert_array_equal([(c.start, c.end) for c in recording.cycles], rows[:, :2])
    assert [c.labels["lungsound4"] for c in recording.cycles] == list(rows[:, 2] + 2 * rows[:, 3])
    assert (recording.patient, recording.location, recording.mode) == ("156", "Al", "mc")


@pytest.mark.spec("D1")
def test_every_name_of_the_split_list_is_understood(shared_data):
    lines = (shared_data / "icbhi" / "metadata" / "official_split.txt").read_text().splitlines()
    stems = [parse_stem(line.split("\t")[0]) for line in lines]
    assert len(stems) == 920
    assert not [stem for stem in stems if isinstance(stem, str)]


def test_label_rules():
    assert [lungsound_labels(*marks)["lungsound4"] for marks in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 1, 2, 3]
    assert [lungsound_labels(*marks)["lungsound2"] for marks in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 1, 1, 1]
    classes = IcbhiCorpus.classes["diagnosis3"]
    rule = {"COPD": "chronic", "Bronchiectasis": "chronic", "Asthma": "chronic", "Healthy": "healthy"}
    rule |= dict.fromkeys(("URTI", "LRTI", "Pneumonia", "Bronchiolitis"), "non-chronic")
    assert {d: classes[diagnosis_labels(d)["diagnosis3"]] for d in rule} == rule
    assert diagnosis_labels(None) == {"diagnosis3": None, "diagnosis2": None}


@pytest.mark.spec("D14")
def test_metadata_vector_of_a_recording(corpus):
    recording = next(r for r in corpus.recordings if r.patient == "223")
    vector = corpus.metadata_vector(recording)
    assert vector[:5] == [-1.0] * 5
    assert corpus.metadata_vector(recording, missing_sex=1)[1] == 1  # as the Patch-Mix system counts it
    known = next(r for r in corpus.recordings if r.name == "101_1b1_Al_sc_Meditron")
    assert corpus.metadata_vector(known) == [3.0, 1.0, -1.0, 19.0, 99.0, 1.0, 0.0]


@pytest.mark.slow
@pytest.mark.spec("D3")
def test_headers_of_real_recordings(shared_data):
    folder = shared_data / "icbhi"
    rows = list(csv.DictReader((folder / "manifest.csv").open()))
    assert len(rows) == 199
    for row in rows:
        header, problems = read_header(folder / "audio" / f"{row['recording']}.flac")
        assert problems == []
        assert (header.rate, header.channels, header.sample_format) == (int(row["sample_rate"]), 1, row["subtype"])
        assert header.seconds == pytest.approx(float(row["seconds"]), abs=1e-3)


@pytest.mark.slow
def test_real_recordings_in_part(shared_data):
    corpus = IcbhiCorpus(shared_data / "icbhi" / "audio")
    assert corpus.summary()["recordings"] == 199
    assert corpus.summary()["cycles"] == 2052
    assert [p.severity for p in corpus.problems] == ["warning"]
    assert "721 of 920 listed recordings are not here" in corpus.problems[0].what
    official = corpus.splits()["official"]
    assert class_counts(corpus, official.side(0, "train"), "lungsound4") == [758, 181, 140, 53]
    assert class_counts(corpus, official.side(0, "test"), "lungsound4") == [639, 102, 140, 39]


@pytest.fixture
def names(shared_data: Path) -> list[str]:
    """Three recordings of the official test side, the first two of them renamed ones."""
    return ["101_1b1_Al_sc_Meditron", "102_1b1_Ar_sc_Meditron", "104_1b1_Al_sc_Litt3200"]


def lay_out(shared: Path, names: list[str], recordings: Path, lists: Path, rename: dict[str, str]) -> None:
    recordings.mkdir(parents=True, exist_ok=True)
    lists.mkdir(parents=True, exist_ok=True)
    for name in names:
        samples, rate = soundfile.read(shared / "icbhi" / "audio" / f"{name}.flac", dtype="int32")
        soundfile.write(recordings / f"{rename.get(name, name)}.wav", samples, rate, subtype="PCM_16")
        shutil.copy(shared / "icbhi" / "audio" / f"{name}.txt", recordings / f"{rename.get(name, name)}.txt")
    for source, name in CHALLENGE_NAMES.items():
        shutil.copy(shared / "icbhi" / "metadata" / source, lists / name)


def identity(recordings: list[Recording]) -> list[tuple]:
    return [(r.name, r.device, r.annotation_hash, r.cycles) for r in recordings]


@pytest.mark.spec("D4")
def test_old_and_new_spelling_give_the_same_corpus(shared_data, names, tmp_path):
    old = {"101_1b1_Al_sc_Meditron": "101_1b1_Al_sc_AKGC417L", "102_1b1_Ar_sc_Meditron": "102_1b1_Ar_sc_AKGC417L"}
    lay_out(shared_data, names, tmp_path / "new" / "ICBHI_final_database", tmp_path / "new", {})
    lay_out(shared_data, names, tmp_path / "old" / "ICBHI_final_database", tmp_path / "old", old)
    new, renamed = IcbhiCorpus(tmp_path / "new"), IcbhiCorpus(tmp_path / "old")
    assert [r.name for r in renamed.recordings] == names
    assert identity(new.recordings) == identity(renamed.recordings)
    assert renamed.recordings[0].audio.name == "101_1b1_Al_sc_AKGC417L.wav"
    assert new.splits()["official"].hash == renamed.splits()["official"].hash
    assert not [p for p in renamed.problems if p.severity == "error"]


def test_both_spellings_side_by_side_count_once(shared_data, names, tmp_path):
    lay_out(shared_data, names[:1], tmp_path, tmp_path, {})
    lay_out(shared_data, names[:1], tmp_path, tmp_path, {names[0]: "101_1b1_Al_sc_AKGC417L"})
    corpus = IcbhiCorpus(tmp_path)
    assert [r.audio.name for r in corpus.recordings] == ["101_1b1_Al_sc_Meditron.wav"]
    assert any("old spelling of 101_1b1_Al_sc_Meditron" in p.what for p in corpus.problems)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recordings", "lists"),
    [("ICBHI_final_database", "."), (".", "."), (".", "metadata"), ("audio", "metadata"), ("audio", "audio")],
)
def test_every_layout_gives_the_same_corpus(shared_data, names, tmp_path, recordings, lists):
    lay_out(shared_data, names, tmp_path / recordings, tmp_path / lists, {})
    (tmp_path / recordings / "README.txt").write_text("not an annotation")
    corpus = open_corpus("icbhi", tmp_path)
    assert [r.name for r in corpus.recordings] == names
    assert [p for p in corpus.problems if "not here" not in p.what] == []
    listed = sum(len((tmp_path / recordings / f"{name}.txt").read_text().splitlines()) for name in names)
    assert [len(corpus.splits()["official"].side(0, s)) for s in ("train", "test")] == [0, listed]


def test_line_ends_and_trailing_zeros_do_not_change_the_annotation_hash(shared_data, names, tmp_path):
    lay_out(shared_data, names[:1], tmp_path, tmp_path, {})
    before = IcbhiCorpus(tmp_path).recordings[0]
    path = tmp_path / f"{names[0]}.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"0.579\t", b"0.57900\t"))
    assert IcbhiCorpus(tmp_path).recordings[0].annotation_hash == before.annotation_hash
    path.write_bytes(path.read_bytes().replace(b"0.57900\t", b"0.580\t"))
    assert IcbhiCorpus(tmp_path).recordings[0].annotation_hash != before.annotation_hash


TOY = """
from pathlib import Path
from feature_store.datasets import Corpus, Cycle, Recording
from feature_store.splits import SplitTable

class ToyCorpus(Corpus):
    name = "toy"
    classes = {"noise": ("quiet", "loud")}

    def __init__(self, root):
        self.root, self.problems = Path(root), []
        place = ("p", "d", "l", "m")
        cycles = tuple(Cycle(f"a#{i:03d}", "a", *place, i, i + 1.0, {"noise": i % 2}) for i in range(4))
        self.recordings = [Recording("a", *place, None, None, cycles, "")]

    def splits(self):
        ids = [cycle.cycle_id for cycle in self.cycles()]
        return {"halves": SplitTable.of_sides("halves", {0: {"train": ids[:2], "test": ids[2:]}})}
"""


@pytest.mark.spec("D25")
def test_a_corpus_of_another_package_needs_no_change_here(tmp_path, monkeypatch):
    (tmp_path / "toy_package.py").write_text(TOY)
    about = tmp_path / "toy_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[lungtune.corpora]\ntoy = toy_package:ToyCorpus\nlost = toy_package:Gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    report = audit(open_corpus("toy", tmp_path))
    assert (report.cycles, report.totals) == (4, {"noise": {"quiet": 2, "loud": 2}})
    assert [p.patient for p in report.overlaps[0].patients] == ["p"]
    with pytest.raises(UserError, match="cannot be loaded"):
        open_corpus("lost", tmp_path)


def test_unknown_corpus_and_folder(tmp_path):
    with pytest.raises(UserError, match="did you mean 'icbhi'"):
        open_corpus("icbih", tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        open_corpus("icbhi", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no recordings"):
        open_corpus("icbhi", tmp_path)
    assert {"icbhi", "aicup-voice", "breathing-phase", "sprsound"} <= set(CORPORA)
