"""A made-up corpus in the format of ICBHI, to try everything and to test with; it says nothing about lungs.

Patients tend to crackle, to wheeze, to both or to neither, and each is recorded with one of four devices of
different rate, sample width and sound. Cycles vary in length, loudness and clarity: the classes can be learned
from sound, not perfectly.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_store.datasets import synthetic_sounds as sounds
from feature_store.datasets.base import SYNTHETIC_MARK
from feature_store.datasets.icbhi_format import LOCATIONS, RENAMED_TO
from feature_store.errors import UserError

FEWEST_PATIENTS = 10  # so that each side of the 60/40 split has a patient of every tendency
FIRST_PATIENT = 101
KINDS = ("healthy", "crackles", "wheezes", "both")
TENDENCY = {"healthy": (0.08, 0.08), "crackles": (0.65, 0.12), "wheezes": (0.12, 0.65), "both": (0.7, 0.7)}
DIAGNOSES = {
    "healthy": ("Healthy",),
    "crackles": ("Pneumonia", "URTI", "LRTI"),
    "wheezes": ("Asthma", "COPD", "Bronchiolitis"),
    "both": ("COPD", "Bronchiectasis"),
}


@dataclass(frozen=True)
class Patient:
    """A made-up patient: name, tendency, diagnosis, device, side of the official split, published fold."""

    name: str
    kind: str
    diagnosis: str
    device: str
    side: str
    fold: int


@dataclass(frozen=True)
class Event:
    """One wheeze or crackle that was put into a recording: start and end in seconds, frequency in Hz."""

    kind: str
    start: float
    end: float
    frequency: float


def synthesize(
    dest: str | Path, patients: int = 16, recordings_per_patient: int = 2, seed: int = 0, cycles_per_recording: int = 6
) -> Path:
    """Write a corpus that `open_corpus("icbhi", dest)` reads; the same arguments give the same bytes.

    Beside the files of the challenge's download it holds `SYNTHETIC`, which says what it is, and `events.csv`, which
    lists every wheeze and crackle with its times and frequency. It appears in one piece or not at all; where the
    same corpus is there already nothing is written.

    Raises:
        UserError: `dest` holds something else, or there are too few patients or recordings.
    """
    dest = Path(dest).expanduser().resolve()
    if patients < FEWEST_PATIENTS:
        raise UserError(f"{patients} patients are too few", hint=f"at least {FEWEST_PATIENTS} are needed")
    if not 1 <= recordings_per_patient <= len(LOCATIONS):
        raise UserError(f"{recordings_per_patient} recordings a patient", hint=f"between 1 and {len(LOCATIONS)}")
    if cycles_per_recording < 1:
        raise UserError(f"{cycles_per_recording} cycles a recording", hint="at least 1")
    mark = (
        "This corpus was made by `lungtune data synthesize`; its sounds are not of lungs and its Scores say nothing "
        "about any patient.\n"
        f"patients={patients} recordings_per_patient={recordings_per_patient} "
        f"cycles_per_recording={cycles_per_recording} seed={seed}\n"
    )
    if dest.is_dir() and any(dest.iterdir()):
        marker = dest / SYNTHETIC_MARK
        if marker.is_file() and marker.read_text() == mark:
            return dest
        raise UserError("the folder holds something else", where=str(dest), hint="give an empty or a new folder")
    dest.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent))
    try:
        draft.chmod(0o755)
        _write(draft, _patients(patients, seed), recordings_per_patient, cycles_per_recording, seed)
        (draft / SYNTHETIC_MARK).write_text(mark)
        draft.replace(dest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return dest


def _patients(number: int, seed: int) -> list[Patient]:
    """60 % train, 40 % test; tendencies and devices take turns on each side so that neither tells the other.

    The published folds share out the tendencies, too.
    """
    rng = np.random.default_rng([seed, 0])
    train = round(0.6 * number)
    places = [("train", i) for i in range(train)] + [("test", i) for i in range(number - train)]
    names = FIRST_PATIENT + rng.permutation(number)
    folds = np.empty(number, int)
    folds[np.argsort([turn % len(KINDS) for _, turn in places], kind="stable")] = np.arange(number) % 5
    people = []
    for (side, turn), name, fold in zip(places, names, folds, strict=True):
        kind = KINDS[turn % len(KINDS)]
        device = tuple(sounds.DEVICES)[(turn + turn // len(sounds.DEVICES)) % len(sounds.DEVICES)]
        people.append(Patient(str(name), kind, str(rng.choice(DIAGNOSES[kind])), device, side, int(fold)))
    return sorted(people, key=lambda patient: patient.name)


def _write(dest: Path, patients: list[Patient], recordings: int, cycles: int, seed: int) -> None:
    folder = dest / "ICBHI_final_database"
    folder.mkdir()
    names: dict[str, Patient] = {}
    events: list[tuple[str, Event]] = []
    for patient in patients:
        rng = np.random.default_rng([seed, int(patient.name)])
        places = rng.permutation(LOCATIONS)[:recordings]
        for index, location in enumerate(places, start=1):
            name = f"{patient.name}_1b{index}_{location}_sc_{patient.device}"
            names[name] = patient
            events += [(name, event) for event in _write_recording(folder, name, patient, cycles, rng)]
    _write_lists(dest, patients, names, np.random.default_rng([seed, 1]))
    with (dest / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recording", "kind", "start", "end", "frequency"])
        writer.writerows((n, e.kind, f"{e.start:.4f}", f"{e.end:.4f}", f"{e.frequency:.1f}") for n, e in events)


def _write_lists(dest: Path, patients: list[Patient], names: dict[str, Patient], rng: np.random.Generator) -> None:
    lists = {
        "ICBHI_challenge_train_test.txt": [f"{name}\t{patient.side}" for name, patient in names.items()],
        "ICBHI_Challenge_diagnosis.txt": [f"{patient.name}\t{patient.diagnosis}" for patient in patients],
        "patient_list_foldwise.txt": [f"{patient.name} {patient.fold}" for patient in patients],
        "metadata.txt": [
            f"{patient.name}\t{rng.integers(19, 90)}.0\t{rng.choice(['F', 'M'])}\t{rng.uniform(19, 33):.1f}\tNA\tNA\tTc"
            for patient in patients
        ],
        "filename_differences.txt": [
            f"'{name.rsplit('_', 1)[0]}_AKGC417L'" for name in names if name.endswith(RENAMED_TO)
        ],
    }
    for name, lines in lists.items():
        (dest / name).write_text("".join(f"{line}\n" for line in lines))


def _write_recording(folder: Path, name: str, patient: Patient, cycles: int, rng: np.random.Generator) -> list[Event]:
    import soundfile

    device = sounds.DEVICES[patient.device]
    bounds = np.round(rng.uniform(0.05, 0.3) + np.concatenate([[0], np.cumsum(rng.uniform(1.6, 3.2, cycles))]), 3)
    starts, ends = bounds[:-1], bounds[1:]
    labels = rng.random((cycles, 2)) < TENDENCY[patient.kind]
    labels[0] = (patient.kind in ("crackles", "both"), patient.kind in ("wheezes", "both"))
    times = np.arange(int(np.ceil((ends[-1] + rng.uniform(0.05, 0.3)) * device.rate))) / device.rate
    sound = sounds.breath(times, starts, ends, device.rate, rng) * rng.uniform(0.8, 1.2)
    sound += rng.uniform(0.2, 0.9) * sounds.heart(times, device.rate, rng)
    events: list[Event] = []
    for start, end, (crackles, wheezes) in zip(starts, ends, labels, strict=True):
        if crackles:
            events += _add_crackles(sound, start, end - start, device.rate, rng)
        if wheezes:
            events.append(_add_wheeze(sound, start, end - start, device.rate, rng))
    heard = sounds.record(sound, device, rng)
    path = os.fsencode(folder / f"{name}.wav")  # a folder's name need not be UTF-8
    soundfile.write(path, heard, device.rate, subtype=device.sample_format, format="WAV")
    rows = zip(starts, ends, labels.astype(int), strict=True)
    lines = [f"{start:.3f}\t{end:.3f}\t{crackle}\t{wheeze}\n" for start, end, (crackle, wheeze) in rows]
    (folder / f"{name}.txt").write_text("".join(lines))
    return events


def _add_crackles(sound: np.ndarray, start: float, seconds: float, rate: int, rng: np.random.Generator) -> list[Event]:
    """4 to 12 bursts, mostly while breathing in; each of 5 to 15 ms, the longer the lower."""
    events = []
    for _ in range(rng.integers(4, 13)):
        reach = sounds.INHALE_SHARE if rng.random() < 0.8 else 0.9
        length = rng.uniform(0.005, 0.015)
        frequency = 3.0 / length * rng.uniform(0.8, 1.2)  # about three swings
        onset = start + rng.uniform(0.05, reach) * seconds
        _add(sound, rng.uniform(1.8, 5.0) * sounds.crackle(length, frequency, rate), onset, rate)
        events.append(Event("crackle", onset, onset + length, frequency))
    return events


def _add_wheeze(sound: np.ndarray, start: float, seconds: float, rate: int, rng: np.random.Generator) -> Event:
    """One tone, mostly while breathing out, at 100 to 1,000 Hz, for 150 ms up to most of the exhalation."""
    exhaling = rng.random() < 0.75
    first, room = (sounds.EXHALE_FROM, 0.97 - sounds.EXHALE_FROM) if exhaling else (0.03, sounds.INHALE_SHARE - 0.05)
    length = max(0.15, rng.uniform(0.35, 0.95) * room * seconds)
    onset = start + first * seconds + rng.uniform(0, max(room * seconds - length, 0))
    drift = rng.uniform(-0.08, 0.08)
    frequency = float(np.exp(rng.uniform(np.log(110), np.log(900))))
    _add(sound, rng.uniform(0.5, 1.6) * sounds.wheeze(length, frequency, drift, rate), onset, rate)
    return Event("wheeze", onset, onset + length, frequency)


def _add(sound: np.ndarray, addition: np.ndarray, onset: float, rate: int) -> None:
    """Add a sound in place, from `onset` seconds."""
    first = int(onset * rate)
    sound[first : first + len(addition)] += addition[: len(sound) - first]
