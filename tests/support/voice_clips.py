"""A made-up corpus of pathological voices: the contest's folders and columns, and vowels that differ by class."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 44100
COLUMNS = (
    "ID", "Sex", "Age", "Disease category", "Narrow pitch range", "Decreased volume", "Fatigue", "Dryness", "Lumping",
    "heartburn", "Choking", "Eye dryness", "PND", "Smoking", "PPD", "Drinking", "frequency", "Diurnal pattern",
    "Onset of dysphonia ", "Noise at work", "Occupational vocal demand", "Diabetes", "Hypertension", "CAD",
    "Head and Neck Cancer", "Head injury", "CVA", "Voice handicap index - 10",
)  # fmt: skip
PLACES = {
    "Training": ("Training_Dataset", "training_datalist.csv", "training_voice_data"),
    "Public": ("Public_Testing_Dataset", "test_datalist_public.csv", "test_data_public"),
    "Private": ("Private_Testing_Dataset", "test_datalist_private.csv", "test_data_private"),
}
Change = Callable[[dict[str, str]], None]


def vowel(code: int, seed: int, samples: int = RATE) -> np.ndarray:
    """A hum of five harmonics, rougher for some classes than for others: ``[samples]`` float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    pitch = rng.uniform(110, 220)
    harmonics = sum(
        np.sin(2 * np.pi * pitch * n * time + rng.uniform(0, 6)) / n ** (0.5 + code / 3) for n in range(1, 6)
    )
    return (0.1 * harmonics + 0.01 * code * rng.normal(size=samples)).astype(np.float32)


def row(name: str, code: int, seed: int) -> dict[str, str]:
    """A patient: no empty cell, and codes of the book."""
    rng = np.random.default_rng(seed)
    cells = {column: str(rng.integers(2)) for column in COLUMNS}
    highest = {"Smoking": (0, 3), "frequency": (0, 3), "Onset of dysphonia ": (1, 5), "Noise at work": (1, 3)}
    highest |= {"Diurnal pattern": (1, 4), "Occupational vocal demand": (1, 4), "Sex": (1, 2), "Drinking": (0, 2)}
    cells |= {column: str(rng.integers(low, high + 1)) for column, (low, high) in highest.items()}
    cells |= {"ID": name, "Age": str(rng.integers(20, 90)), "PPD": "0.5", "Disease category": str(code)}
    return cells | {"Voice handicap index - 10": str(rng.integers(41))}


def write_voices(root: Path, count: int = 20, tested: int = 0, change: Mapping[int, Change] | None = None) -> Path:
    """A corpus of `count` clips, every class alike, and a contest of `tested` more, half of them private.

    Args:
        root: becomes the corpus.
        count, tested: clips.
        change: edits rows by their number before they are written.
    """
    public = tested - tested // 2
    sides = {
        "Training": range(count),
        "Public": range(count, count + public),
        "Private": range(count + public, count + tested),
    }
    for side, numbers in sides.items():
        if not numbers:
            continue
        folder, listed, clips = PLACES[side]
        (root / folder / clips).mkdir(parents=True, exist_ok=True)
        rows = []
        for number in numbers:
            cells = row(f"0A{number:05x}", number % 5 + 1, number)
            write_sound(root / folder / clips / f"{cells['ID']}.wav", vowel(number % 5 + 1, number))
            (change or {}).get(number, lambda _: None)(cells)
            rows.append(cells)
        columns = [column for column in COLUMNS if side == "Training" or column != "Disease category"]
        write_rows(root / folder / listed, columns, rows)
    return root


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_sound(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, RATE, subtype="PCM_16")
