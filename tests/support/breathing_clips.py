"""A made-up breathing-phase corpus: what its lists and clips look like in either style, and sounds that differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def breath(phase: str, seed: int, samples: int = RATE) -> np.ndarray:
    """Noise: bright for inhaling, dull for exhaling, so that the two can be distinguished. ``[samples]`` float32."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=samples)
    if phase == "E":
        noise = np.convolve(noise, np.ones(24) / 6, mode="same")
    swell = np.sin(np.linspace(0, np.pi, samples)) if samples > 1 else np.ones(samples)
    return (0.05 * noise * swell).astype(np.float32)


def clip_names(count: int, clips_a_recording: int = 3) -> list[tuple[str, str, str]]:
    """Source recording, class and number of each clip; a recording has clips of both classes."""
    return [
        (f"steth_20180814_09_{n // clips_a_recording:02d}_11", "IE"[n % 2], f"{n % clips_a_recording:03d}")
        for n in range(count)
    ]


def write_clips(root: Path, count: int = 24, tested: int = 0, letters: bool = True, suffix: str = ".wav") -> Path:
    """A corpus of `count` clips in one of the two styles, and a contest of `tested` further ones."""
    for folder in ("train", "test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    clips = clip_names(count + tested)
    rows = []
    for number, (source, phase, index) in enumerate(clips):
        side = "train" if number < count else "test"
        write_sound(root / side / f"{source}_{index}{suffix}", breath(phase, number))
        rows.append((f"{source}_{phase}_{index}" if letters else f"{source}_{index}", phase))
    write_list(root / "train.csv", ("ID", "Target") if letters else ("file_name", "label"), rows[:count])
    if tested:
        names = [(f"{source}_{index}{suffix}",) for source, _, index in clips[count:]]
        write_list(root / "test.csv", ("ID",), names[::-1])
    return root


def write_list(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join(",".join(row) + "\r\n" for row in (columns, *rows)))


def write_sound(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, RATE, subtype="PCM_16")
