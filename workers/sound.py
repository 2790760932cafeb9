"""Sound as it reaches a model that predicts: a file, the bytes of one, or samples; read, checked, and limited."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from feature_store.audio import MOST_SAMPLES, at_full_scale, decode
from feature_store.errors import UserError

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # Hz
MOST_WINDOWS = 100_000
PREFIX = "LUNGTUNE_SERVE_"
DIGITS = 15  # of a limit


@dataclass(frozen=True)
class Waveform:
    """Sound as numbers: ``[samples]`` in [-1, 1], mono, and its rate in Hz."""

    samples: np.ndarray
    rate: float


Sound = Path | bytes | Waveform  # a WAV or FLAC file, the bytes of one, or its samples


@dataclass
class Limits:
    """What may still be taken; each sound takes its part, so that limits of a request hold for all its rows together.

    Attributes:
        bytes: of sound as it comes: of a file, or 4 a sample.
        seconds: of sound once decoded, of as many samples as at 48 kHz.
        cycles: that are given.
        windows: that are cut where none are given.
    """

    bytes: int | float = math.inf
    seconds: int | float = math.inf
    cycles: int | float = math.inf
    windows: int | float = MOST_WINDOWS

    @classmethod
    def of_a_request(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """A served model's: 64 MiB, 20 minutes, 1,000 cycles and 1,000 windows, unless LUNGTUNE_SERVE_BYTES, _SECONDS,
        _CYCLES or _WINDOWS say otherwise.

        Raises:
            UserError: one of them is no whole number from 1.
        """
        found = {"bytes": 64 << 20, "seconds": 1_200, "cycles": 1_000, "windows": 1_000}
        for name in found:
            text = environment.get(PREFIX + name.upper(), "").strip()
            if not text:
                continue
            if not (text.isascii() and text.isdigit() and len(text) <= DIGITS and int(text)):
                raise UserError(f"'{text[:20]}' is no limit", where=PREFIX + name.upper(), hint="a whole number from 1")
            found[name] = int(text)
        return cls(**found)

    def take(self, kind: str, amount: float, where: str) -> None:
        """Count an amount of bytes, seconds, cycles or windows.

        Raises:
            UserError: it is more than is left.
        """
        left = getattr(self, kind)
        if amount > left:
            assert kind in {field.name for field in fields(self)}
            name = "bytes of sound" if kind == "bytes" else "s of sound" if kind == "seconds" else kind
            hint = f"send less at once, or set {PREFIX}{kind.upper()} where the model is served"
            what = f"has {_number(amount)} {name}, and at most {_number(left)} more are taken"
            raise UserError(what, where=where, hint=hint)
        setattr(self, kind, left - amount)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def read_sound(sound: Sound, name: str, full_scale: float | None, limits: Limits) -> tuple[np.ndarray, int]:
    """Samples ``[samples]`` float32 and rate in Hz, checked.

    Memory is bounded by what is left in `limits`, whatever a file's header says.

    Args:
        sound: to read.
        name: for errors.
        full_scale: what samples that pass 16 are divided by, if the feature has it.
        limits: less the sound's bytes and seconds afterwards.

    Raises:
        UserError: it is no sound, more than the limits leave, or not of a rate from 1 kHz to 1 MHz.
    """
    if isinstance(sound, Waveform):
        limits.take("bytes", 4 * np.size(sound.samples), name)
        samples, rate = _checked_samples(sound.samples, name), _checked_rate(sound.rate, name)
    else:
        try:
            samples, rate = _decoded(sound, name, limits)
        except UserError as error:
            raise UserError(error.what, where=name, hint=error.hint) from error
        rate = _checked_rate(rate, name)
    limits.take("seconds", len(samples) / min(rate, MOST_SAMPLES), name)
    return at_full_scale(samples, full_scale, name), rate


def _decoded(sound: Path | bytes, name: str, limits: Limits) -> tuple[np.ndarray, int]:
    if isinstance(sound, Path):
        try:
            size = sound.stat().st_size
        except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
            raise UserError("is not a file that can be read", hint=str(error)) from error
        limits.take("bytes", size, name)
        return decode(sound, limits.seconds)
    limits.take("bytes", len(sound), name)
    with tempfile.TemporaryDirectory() as folder:  # the header is read from a file
        path = Path(folder) / "audio"
        path.write_bytes(sound)
        return decode(path, limits.seconds)


def _checked_rate(rate: float, name: str) -> int:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):  # NaN is in no range
        hint = f"whole Hz from {LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        raise UserError(f"a rate of {rate:g} Hz is none of a recording", where=name, hint=hint)
    return int(rate)


def _checked_samples(samples: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # 1e308 becomes infinite, and is refused below
        samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        hint = "mix the channels down, or keep the one of the chest piece"
        raise UserError(f"samples of shape {list(samples.shape)} are not one channel", where=name, hint=hint)
    if not len(samples):
        raise UserError("holds no sound (0 samples)", where=name)
    if not np.isfinite(samples).all():
        raise UserError("holds samples that are NaN or infinite", where=name)
    return samples
