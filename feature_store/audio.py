"""From a recording's file to waveforms of one length: decode, resample, fade, slice, pad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from feature_store.datasets.audio_header import read_header
from feature_store.errors import UserError

if TYPE_CHECKING:
    pass


class Length(Protocol):
    """What `cut_cycles` needs of a feature's spec."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def fade_seconds(self) -> float: ...
    @property
    def pad(self) -> str: ...


def decode(path: Path) -> tuple[np.ndarray, int]:
    """A mono file's samples in [-1, 1], float32, and its rate in Hz; WAV or FLAC of 16, 24 or 32 bit.

    Raises:
        UserError: the file is missing, empty, truncated, not audio or not mono.
    """
    import soundfile

    try:
        _, problems = read_header(path)  # libsndfile alone takes a cut WAV for a shorter one
        for problem in problems:
            if problem.severity == "error":
                raise UserError(problem.what, where=problem.where, hint=problem.hint or None)
        with soundfile.SoundFile(path) as file:
            declared, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError("is not an audio file that can be read", where=str(path), hint=str(error)) from error
    if len(samples) < declared:
        raise UserError(f"is truncated: {len(samples)} of {declared} samples", where=str(path))
    return samples, rate


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Windowed-sinc resampling with torchaudio's defaults, as Patch-Mix does; ``[samples]`` float32."""
    if rate == target:
        return waveform
    import torch
    from torchaudio.functional import resample as sinc_resample

    return sinc_resample(torch.from_numpy(waveform), rate, target).numpy()


def fade(waveform: np.ndarray, samples: int, *, start: bool = True, end: bool = True) -> np.ndarray:
    """A copy with linear ramps: from 0 over the first samples, to 0 over the last."""
    faded = waveform.copy()
    length = min(samples, len(waveform))
    if length:
        ramp = np.linspace(0.0, 1.0, samples, dtype=np.float32)
        if start:
            faded[:length] *= ramp[:length]
        if end:
            faded[-length:] *= ramp[::-1][-length:]
    return faded


def load_recording(path: Path, sample_rate: int, fade_seconds: float) -> np.ndarray:
    """A whole recording at a rate, faded in and out once, ``[samples]`` float32.

    Raises:
        UserError: as `decode`.
    """
    waveform, rate = decode(path)
    return fade(resample(waveform, rate, sample_rate), round(sample_rate * fade_seconds))


def cut(waveform: np.ndarray, start: float, end: float, rate: int) -> np.ndarray:
    """The samples from `start` to `end` seconds, both cut down to whole samples and to the waveform's end.

    Raises:
        UserError: nothing is left.
    """
    first, last = (min(int(second * rate), len(waveform)) for second in (start, end))
    if last <= first:
        raise UserError(f"the cycle from {start} to {end} s has no samples", hint="correct its annotation")
    return waveform[first:last]


def fit_length(cycle: np.ndarray, samples: int, pad: str, fade_samples: int) -> np.ndarray:
    """A cycle at exactly `samples`: its beginning if it is longer, else filled.

    ``repeat`` tiles it and fades the end out; ``zero`` centres it in silence (Patch-Mix's two paddings).
    """
    length = len(cycle)
    if length > samples:
        return cycle[:samples]
    if pad == "zero":
        fitted = np.zeros(samples, dtype=cycle.dtype)
        left = (samples - length) // 2
        fitted[left : left + length] = cycle
        return fitted
    return fade(np.tile(cycle, math.ceil(samples / length))[:samples], fade_samples, start=False)


def cut_cycles(waveform: np.ndarray, spans: Sequence[tuple[float, float]], spec: Length) -> np.ndarray:
    """Cycles of a recording at the length that a feature takes, ``[cycles, samples]`` float32."""
    fade_samples = round(spec.sample_rate * spec.fade_seconds)
    return np.stack(
        [fit_length(cut(waveform, *span, spec.sample_rate), spec.samples, spec.pad, fade_samples) for span in spans]
    )
