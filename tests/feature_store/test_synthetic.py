"""The synthetic corpus: its sounds are what they are said to be, measured from the WAV files, and it can be learned."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal, stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from feature_store.audit import audit
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.datasets.synthetic import synthesize
from feature_store.datasets.synthetic_sounds import breath, crackle, wheeze
from feature_store.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return synthesize(tmp_path_factory.mktemp("corpus") / "synthetic", patients=24, recordings_per_patient=2, seed=5)


@pytest.fixture(scope="module")
def corpus(root: Path) -> IcbhiCorpus:
    return IcbhiCorpus(root)


@pytest.fixture(scope="module")
def events(root: Path) -> dict[str, list[tuple[str, float, float, float]]]:
    found = defaultdict(list)
    for row in csv.DictReader((root / "events.csv").open()):
        found[row["recording"]].append((row["kind"], *(float(row[k]) for k in ("start", "end", "frequency"))))
    return found


def spectrum(sound: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return np.fft.rfftfreq(len(sound), 1 / rate), power


def test_it_is_read_as_a_complete_corpus_without_a_problem(corpus):
    assert corpus.problems == []
    summary = {"recordings": 48, "recordings_listed": 48, "patients": 24, "cycles": 288, "synthetic": True}
    assert corpus.summary() == summary


def test_both_sides_have_every_class_and_no_patient_in_common(corpus):
    report = audit(corpus)
    sides = [s for s in report.sides if s.split == "official"]
    assert [s.patients for s in sides] == [14, 10]
    for side in sides:
        for task in ("lungsound4", "diagnosis3"):
            assert all(side.labels[task].values()), (side.side, task, side.labels[task])
    assert not [o for o in report.overlaps if o.patients]
    assert len({s.fold for s in report.sides if s.split == "five-fold"}) == 5


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_corpus_has_every_class_on_both_sides(tmp_path, seed):
    corpus = IcbhiCorpus(synthesize(tmp_path / "s", patients=10, recordings_per_patient=1, seed=seed))
    official = corpus.splits()["official"]
    labels = {c.cycle_id: c.labels["lungsound4"] for c in corpus.cycles()}
    for side in ("train", "test"):
        assert {labels[c] for c in official.side(0, side)} == {0, 1, 2, 3}


def test_devices_have_their_rates_and_sample_formats(corpus):
    found = {(r.device, (i := soundfile.info(r.audio)).samplerate, i.subtype) for r in corpus.recordings}
    assert found == {
        ("Meditron", 44100, "PCM_24"),
        ("LittC2SE", 16000, "PCM_16"),
        ("Litt3200", 4000, "PCM_16"),
        ("AKGC417L", 44100, "PCM_32"),
    }


def test_labels_are_what_was_put_into_each_cycle(corpus, events):
    for recording in corpus.recordings:
        for cycle in recording.cycles:
            kinds = {kind for kind, start, _, _ in events[recording.name] if cycle.start <= start < cycle.end}
            assert cycle.labels["lungsound4"] == ("crackle" in kinds) + 2 * ("wheeze" in kinds)


def test_events_have_the_lengths_and_pitches_of_the_literature(events):
    everything = [event for of_recording in events.values() for event in of_recording]
    wheezes = [e for e in everything if e[0] == "wheeze"]
    crackles = [e for e in everything if e[0] == "crackle"]
    assert len(wheezes) > 50 and len(crackles) > 400
    assert all(end - start > 0.08 and 100 <= hz <= 1000 for _, start, end, hz in wheezes)
    assert all(0.005 <= end - start + 1e-4 <= 0.0153 for _, start, end, _ in crackles)


def test_wheezes_stand_out_in_the_recorded_spectrum(corpus, events):
    """In the file itself: power in the wheeze's band during it, against the same band in normal cycles."""
    ratios = []
    for recording in corpus.recordings:
        samples, rate = soundfile.read(recording.audio)
        normal = [c for c in recording.cycles if c.labels["lungsound4"] == 0]
        for kind, start, end, hz in events[recording.name]:
            if kind != "wheeze" or not normal or not 150 < hz < 800:
                continue
            levels = []
            for s, e in [(start, end), *((c.start, c.end) for c in normal)]:
                frequencies, power = spectrum(samples[int(s * rate) : int(e * rate)], rate)
                band = (frequencies > 0.9 * hz) & (frequencies < 1.1 * hz)
                levels.append(power[band].sum() / power.sum())
            ratios.append(levels[0] / np.mean(levels[1:]))
    assert len(ratios) > 10
    assert np.median(ratios) > 3


def test_a_wheeze_is_a_tone_with_harmonics_that_lasts():
    rate, hz = 16000, 320.0
    tone = wheeze(0.5, hz, 0.0, rate)
    frequencies, power = spectrum(tone, rate)
    assert frequencies[power.argmax()] == pytest.approx(hz, abs=2)
    peak = power.max()
    for n, amplitude in ((2, 0.45), (3, 0.2)):
        near = np.abs(frequencies - n * hz) < 4
        assert np.sqrt(power[near].max() / peak) == pytest.approx(amplitude, rel=0.05)
    loud = np.abs(signal.hilbert(tone)) > 0.5
    assert loud.sum() / rate > 0.08
    glide = wheeze(1.0, 400, 0.1, rate)
    first, last = (spectrum(part, rate) for part in (glide[: rate // 5], glide[-rate // 5 :]))
    assert last[0][last[1].argmax()] / first[0][first[1].argmax()] == pytest.approx(1.08, abs=0.02)


def test_a_wheeze_above_the_reach_of_the_rate_has_no_alias():
    tone = wheeze(0.5, 900, 0.05, 4000)
    frequencies, power = spectrum(tone, 4000)
    assert power[(frequencies < 800) | (frequencies > 1000)].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize("seconds", [0.005, 0.01, 0.015])
def test_a_crackle_is_a_damped_burst(seconds):
    rate = 44100
    burst = crackle(seconds, 3 / seconds, rate)
    assert len(burst) == int(seconds * rate)
    assert np.abs(burst).max() == 1
    energy = np.cumsum(burst**2) / np.sum(burst**2)
    assert energy[len(burst) // 2] > 0.95  # most of it in the first half
    assert np.abs(burst[-5:]).max() < 1e-2
    assert np.sum(np.diff(np.sign(burst[1:])) != 0) == 5  # three swings


def test_breath_is_loud_in_the_middle_of_its_phases_and_still_between_them():
    rate = 8000
    times = np.arange(4 * rate) / rate
    starts, ends = np.array([0.0, 2.0]), np.array([2.0, 4.0])
    draws = [breath(times, starts, ends, rate, np.random.default_rng(seed)) for seed in range(20)]
    level = np.sqrt(np.mean(np.square(draws), axis=0))
    at = {name: level[int((2 + 2 * p) * rate) - 80 :][:160].mean() for name, p in (("in", 0.21), ("out", 0.74))}
    assert at["in"] > 1.3 * at["out"] > 0
    pause = level[int((2 + 2 * 0.43) * rate) : int((2 + 2 * 0.47) * rate)]
    assert pause.max() == 0


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_ones(tmp_path):
    def digest(folder: Path) -> str:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()

    options = {"patients": 10, "recordings_per_patient": 1, "cycles_per_recording": 2}
    first = digest(synthesize(tmp_path / "a", **options))
    assert digest(synthesize(tmp_path / "b", **options)) == first
    assert digest(synthesize(tmp_path / "c", **options, seed=1)) != first


def test_nothing_is_overwritten(tmp_path, root):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        synthesize(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    synthesize(root, patients=24, recordings_per_patient=2, seed=5)  # the same again: nothing to do
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    with pytest.raises(UserError, match="holds something else"):
        synthesize(root, patients=25)


def test_sizes_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="too few"):
        synthesize(tmp_path / "s", patients=3)
    with pytest.raises(UserError, match="8 recordings a patient"):
        synthesize(tmp_path / "s", recordings_per_patient=8)
    with pytest.raises(UserError, match="0 cycles"):
        synthesize(tmp_path / "s", cycles_per_recording=0)
    assert list(tmp_path.iterdir()) == []


def describe(sound: np.ndarray, rate: int) -> list[float]:
    """A few classical descriptors at 4 kHz: spikiness (crackles) and peakedness of the spectrum (wheezes)."""
    sound = signal.resample_poly(sound, 4000, rate) if rate != 4000 else sound
    sound = signal.sosfilt(signal.butter(2, [100, 1500], "bandpass", fs=4000, output="sos"), sound)
    _, _, frames = signal.stft(sound, 4000, nperseg=512, noverlap=384)
    power = np.abs(frames) ** 2 + 1e-12
    flatness = np.exp(np.log(power).mean(0)) / power.mean(0)
    peak = power.max(0) / power.mean(0)
    short = np.convolve(sound**2, np.ones(20) / 20, "same")
    long = np.convolve(sound**2, np.ones(400) / 400, "same") + 1e-12
    return [
        stats.kurtosis(sound),
        *np.percentile(short / long, [90, 99]),
        *np.percentile(flatness, [5, 20]),
        *np.percentile(peak, [80, 95]),
        *np.log(power.mean(1).reshape(-1)[:256].reshape(16, 16).sum(1)),
    ]


def test_classes_can_be_learned_but_not_perfectly(corpus):
    """Plain descriptors and a forest, trained on the training patients, on patients it has not heard."""
    features, labels = {}, {}
    for recording in corpus.recordings:
        samples, rate = soundfile.read(recording.audio)
        for c in recording.cycles:
            features[c.cycle_id] = describe(samples[int(c.start * rate) : int(c.end * rate)], rate)
            labels[c.cycle_id] = c.labels["lungsound4"]
    official = corpus.splits()["official"]
    train, test = official.side(0, "train"), official.side(0, "test")
    forest = RandomForestClassifier(200, class_weight="balanced", random_state=0, min_samples_leaf=2)
    forest.fit([features[c] for c in train], [labels[c] for c in train])
    recall = balanced_accuracy_score([labels[c] for c in test], forest.predict([features[c] for c in test]))
    assert 0.4 < recall < 0.97, recall


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path):
    """Killed while it writes, then the same again: the corpus appears whole."""
    code = "import sys; from feature_store.datasets.synthetic import synthesize; synthesize(sys.argv[1], patients=40)"
    dest = tmp_path / "s"
    repository = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(dest)], cwd=repository, env=os.environ)
    while not list(tmp_path.glob(".s-*/ICBHI_final_database/*.wav")):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not dest.exists()
    assert IcbhiCorpus(synthesize(dest, patients=10, recordings_per_patient=1)).problems == []
