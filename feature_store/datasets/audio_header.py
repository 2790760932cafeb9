"""What an audio file's header says, and whether the file holds what it promises; no samples are kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from feature_store.datasets.base import Problem

SAMPLE_FORMATS = frozenset({"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})
UNKNOWN_SIZE = frozenset({0, 0xFFFFFFFF})  # what programs write that stream a WAV without knowing its length
LOWEST_RATE = 4000  # Hz


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
    """Read the header, and the last sample, of a WAV or FLAC file.

    Returns:
        The header, None where the file cannot be used, and what is wrong with the file: empty, not audio,
        truncated, more than one channel, a sample format of less than 16 bit, a rate below 4 kHz (a warning).
    """
    import soundfile

    def problem(what: str, hint: str) -> list[Problem]:
        return [Problem("error", str(path), what, hint)]

    size = path.stat().st_size
    if size == 0:
        return None, problem("the file is empty (0 bytes)", "copy or download it again")
    try:
        with soundfile.SoundFile(path) as sound:
            header = AudioHeader(sound.samplerate, sound.frames, sound.channels, sound.subtype)
            last_is_readable = header.frames == 0 or _reads_last(sound)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        return None, problem(f"cannot be read as audio: {reason}", "it must be a WAV or FLAC file")
    declared = _declared_data_bytes(path)
    if declared and declared[0] > declared[1]:
        missing = 1 - declared[1] / declared[0]
        what = f"the file is truncated: its header declares {declared[0]:,} bytes of sound, {declared[1]:,} are there"
        return None, problem(f"{what} ({missing:.0%} missing)", "copy or download it again")
    if header.frames == 0:
        return None, problem("holds no sound (0 samples)", "copy or download it again")
    if not last_is_readable:
        return None, problem("the file is truncated: its last sample cannot be read", "copy or download it again")
    if header.channels != 1:
        hint = "mix it down, or keep the channel of the chest piece: sox in.wav -c 1 out.wav"
        return None, problem(f"has {header.channels} channels; recordings are mono", hint)
    if header.sample_format not in SAMPLE_FORMATS:
        hint = "16, 24 and 32 bit PCM and float can be read"
        return None, problem(f"has samples of format {header.sample_format}", hint)
    if header.rate < LOWEST_RATE:
        what = f"is sampled at {header.rate} Hz; lung sounds reach up to 2 kHz and need at least {LOWEST_RATE} Hz"
        return header, [Problem("warning", str(path), what)]
    return header, []


def _reads_last(sound) -> bool:
    """Whether the last declared frame can be decoded (a cut FLAC declares frames that it does not hold)."""
    import soundfile

    try:
        sound.seek(sound.frames - 1)
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def _declared_data_bytes(path: Path) -> tuple[int, int] | None:
    """Bytes of sound that a RIFF WAV file declares and that it holds; None for other files and unknown sizes.

    libsndfile silently shortens a cut WAV file to what is there, so the chunks are walked here.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return None
        offset = 12
        while offset + 8 <= size:
            file.seek(offset)
            kind, length = struct.unpack("<4sI", file.read(8))
            if kind == b"data":
                return None if length in UNKNOWN_SIZE else (length, min(length, size - offset - 8))
            offset += 8 + length + length % 2
    return None
