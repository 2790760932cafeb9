"""What an audio file's header says, and whether the file holds what it promises; no samples are kept."""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.datasets.audio_container import CONTAINERS, SoundBytes, sound_bytes
from feature_store.datasets.base import Problem

if TYPE_CHECKING:
    import soundfile

SAMPLE_FORMATS = frozenset({"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})
FLOATS = frozenset({"FLOAT", "DOUBLE"})
LOWEST_RATE = 4000  # Hz
LARGEST_SAMPLE = 16.0  # a float recording may pass 1 a little; 16-bit whole numbers are far above
BLOCK = 1 << 16  # frames that are decoded at once
UNKNOWN_FRAMES = 1 << 62  # libsndfile gives more to a FLAC file whose writer did not know its length
WHOLE_NUMBERS = "if they are 16-bit whole numbers stored as floats, set the feature's full_scale to 32768"


@dataclass(frozen=True)
class AudioHeader:
    """Sample rate in Hz, frames (samples a channel), channels and libsndfile's name of the sample format."""

    rate: int
    frames: int
    channels: int
    sample_format: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def read_header(path: Path) -> tuple[AudioHeader | None, list[Problem]]:
    """Read the header of a WAV, FLAC, RF64, W64, AIFF, AU, CAF or SPHERE file, its last sample, and all float samples.

    A file whose writer did not know its length, as programs leave them that stream, is as long as what is there.

    Returns:
        The header, None where the file cannot be used, and what is wrong with the file: empty, not audio,
        truncated, more than one channel, a sample format of less than 16 bit, float samples that are NaN or infinite;
        as warnings a rate below 4 kHz and float samples beyond [-1, 1].
    """
    header, problems = read_length(path)
    if header is None or header.sample_format not in FLOATS:
        return header, problems
    largest = _largest_sample(path)
    if not math.isfinite(largest):
        hint = "write it again from its source, without them"
        return None, [Problem("error", str(path), "holds samples that are NaN or infinite", hint)]
    if largest > LARGEST_SAMPLE:
        what = (
            f"has a sample of {largest:g}; float samples lie between -1 and 1, and no feature takes these as they are"
        )
        problems.append(Problem("warning", str(path), what, WHOLE_NUMBERS))
    elif largest > 1:
        what = f"has a sample of {largest:g}; float samples lie between -1 and 1. They are used as they are"
        problems.append(Problem("warning", str(path), what))
    return header, problems


def read_length(path: Path) -> tuple[AudioHeader | None, list[Problem]]:
    """As `read_header`, without a look at float samples."""
    import soundfile

    def problem(what: str, hint: str) -> tuple[None, list[Problem]]:
        return None, [Problem("error", str(path), what, hint)]

    if path.stat().st_size == 0:
        return problem("the file is empty (0 bytes)", "copy or download it again")
    try:
        with open_sound(path) as (sound, held):
            container, frames = sound.format, sound.frames
            header = AudioHeader(sound.samplerate, frames, sound.channels, sound.subtype)
            last_is_readable = frames == 0 or _reads_last(sound)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        return problem(f"cannot be read as audio: {reason}", "it must be a WAV or FLAC file")
    except (struct.error, ValueError, IndexError):
        return problem("cannot be read as audio: its header is damaged", "it must be a WAV or FLAC file")
    if container not in CONTAINERS:
        what = f"is a file of format {container}, which does not say reliably how long it is"
        return problem(what, "convert it to WAV or FLAC: sox in out.wav")
    if header.frames >= UNKNOWN_FRAMES:
        return problem("does not say how long it is, as if it was streamed", "write it again: flac -d, then flac")
    if held and held.missing:
        what = f"its header declares {held.declared:,} bytes of sound, {held.held:,} are there"
        return problem(f"the file is truncated: {what} ({held.missing:.0%} missing)", "copy or download it again")
    if header.frames == 0:
        return problem("holds no sound (0 samples)", "copy or download it again")
    if not last_is_readable:
        return problem("the file is truncated: its last sample cannot be read", "copy or download it again")
    if header.channels != 1:
        hint = "mix it down, or keep the channel of the chest piece: sox in.wav -c 1 out.wav"
        return problem(f"has {header.channels} channels; recordings are mono", hint)
    if header.sample_format not in SAMPLE_FORMATS:
        return problem(f"has samples of format {header.sample_format}", "16, 24 and 32 bit PCM and float can be read")
    if header.rate < LOWEST_RATE:
        what = f"is sampled at {header.rate} Hz; lung sounds reach up to 2 kHz and need at least {LOWEST_RATE} Hz"
        return header, [Problem("warning", str(path), what)]
    return header, []


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[tuple[soundfile.SoundFile, SoundBytes | None]]:
    """The file as libsndfile reads it, and the bytes of sound that it declares and holds; None for FLAC and unknown.

    A WAV file of which the writer left the size at 0 is read to its end.

    Raises:
        soundfile.LibsndfileError: it is no audio.
        struct.error, ValueError, IndexError: its header ends too soon, or holds no numbers.
    """
    import soundfile

    with contextlib.ExitStack() as opened:
        sound = opened.enter_context(soundfile.SoundFile(os.fsencode(path)))  # a name need not be UTF-8
        held = sound_bytes(path, sound.format) if sound.format in CONTAINERS else None
        if held and held.declared is None and held.held and not sound.frames and sound.format in ("WAV", "WAVEX"):
            content = bytearray(path.read_bytes())
            content[held.start - 4 : held.start] = b"\xff" * 4  # the size that libsndfile takes for "to the end"
            sound = opened.enter_context(soundfile.SoundFile(io.BytesIO(content)))
        yield sound, held


def _largest_sample(path: Path) -> float:
    """The largest absolute value; NaN or infinite if a sample is."""
    import numpy as np

    largest = 0.0
    with open_sound(path) as (sound, _):
        while len(block := sound.read(BLOCK, dtype="float32")):
            of_block = float(np.abs(block).max())
            if not math.isfinite(of_block):
                return of_block
            largest = max(largest, of_block)
    return largest


def _reads_last(sound: soundfile.SoundFile) -> bool:
    """Whether the last declared frame can be decoded (a cut FLAC declares frames that it does not hold)."""
    import soundfile

    try:
        sound.seek(sound.frames - 1)
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False
