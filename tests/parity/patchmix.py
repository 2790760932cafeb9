"""Patch-Mix CL's way from a file to filter banks, by plain torchaudio.

Specified in docs/specification.md, 2.1 and 2.2.
"""

from __future__ import annotations

import csv
import math
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torchaudio.transforms import Fade, Resample

from feature_store.audio import cut_cycles, load_recording
from feature_store.features import FbankSpec
from tests.parity.rows import Row, data

RATE, LENGTH, RAMP = 16000, 128000, 1000  # Hz; samples
MEAN, STD = -4.2677393, 4.5689974
RATES = (4000, 10000, 16000, 44100)

Spans = list[tuple[float, float]]


def original_fbanks(path: Path, spans: Spans) -> list[np.ndarray]:
    """Normalised filter banks ``[798, 128]`` of a recording's cycles, in the order and precision of the original."""
    samples, rate = soundfile.read(path, dtype="float32")
    sound = torch.from_numpy(samples)[None]
    if rate != RATE:
        sound = Resample(rate, RATE)(sound)
    sound = Fade(RAMP, RAMP, "linear")(sound)
    return [_fbank(sound[:, slice(*(min(int(second * RATE), sound.shape[1]) for second in span))]) for span in spans]


def own_fbanks(path: Path, spans: Spans) -> list[np.ndarray]:
    """The same by lungtune's code."""
    spec = FbankSpec()
    recording = load_recording(path, spec.sample_rate, spec.fade_seconds)
    return list(spec.compute(cut_cycles(recording, spans, spec)))


def recordings(rate: int, audio: Path, count: int) -> list[tuple[Path, Spans]]:
    """So many recordings of a rate, of each width of its samples, with the spans of their cycles in seconds."""
    rows = [row for row in csv.DictReader((audio.parent / "manifest.csv").open()) if int(row["sample_rate"]) == rate]
    widths = {row["subtype"] for row in rows}
    chosen = [row for width in sorted(widths) for row in [r for r in rows if r["subtype"] == width][:count]]
    found = []
    for row in chosen:
        path = audio / f"{row['recording']}.flac"
        lines = path.with_suffix(".txt").read_text().splitlines()
        found.append((path, [(float(start), float(end)) for start, end, *_ in map(str.split, lines)]))
    return found


def difference(rate: int, count: int = 6) -> float:
    """The largest difference of any bin of any cycle of real recordings of a rate."""
    pairs = [
        (own, original)
        for path, spans in recordings(rate, data("icbhi", "audio"), count)
        for own, original in zip(own_fbanks(path, spans), original_fbanks(path, spans), strict=True)
    ]
    return max(float(np.abs(own - original).max()) for own, original in pairs)


def rows() -> list[Row]:
    return [
        Row(
            f"patchmix-fbank-{rate}",
            f"file to `fbank`, real recordings of {rate / 1000:g} kHz",
            "Patch-Mix CL: torchaudio `Resample`, `Fade`, `kaldi.fbank`",
            "normalised log-mel",
            partial(difference, rate),
        )
        for rate in RATES
    ]


def _fbank(cycle: torch.Tensor) -> np.ndarray:
    if cycle.shape[1] > LENGTH:
        cycle = cycle[:, :LENGTH]
    else:
        repeated = cycle.tile(math.ceil(LENGTH / cycle.shape[1]))[:, :LENGTH]
        cycle = Fade(0, RAMP, "linear")(repeated)
    values = torchaudio.compliance.kaldi.fbank(
        cycle,
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    return ((values - MEAN) / (2 * STD)).numpy()
