"""From a file to waveforms of one length, against closed forms, torchaudio and the published recipe's formulas."""

from __future__ import annotations

import csv
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.audio import cut, cut_cycles, decode, fade, fit_length, load_recording, resample
from feature_store.datasets.audio_header import AudioHeader, read_header
from feature_store.errors import UserError
from feature_store.features import FbankSpec

FORMATS = [
    *((suffix, width) for suffix in ("wav", "flac") for width in ("PCM_16", "PCM_24")),
    ("wav", "PCM_32"),  # FLAC of 32 bit is beyond libsndfile
]
RATES = (4000, 10000, 16000, 44100)


def tone(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def ramp(length: int) -> np.ndarray:
    """A waveform whose every sample tells its own place."""
    return np.arange(1, length + 1, dtype=np.float32)


# --- decode ---


@pytest.mark.spec("D3")
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("suffix", "width"), FORMATS)
def test_decodes_every_sample_of_every_format(tmp_path: Path, suffix: str, width: str, rate: int) -> None:
    path, written = tmp_path / f"a.{suffix}", tone(440, 1.37, rate)
    soundfile.write(path, written, rate, subtype=width)
    samples, found = decode(path)
    assert (found, len(samples), samples.dtype) == (rate, round(1.37 * rate), np.float32)
    step = 2.0 ** (1 - min(int(width.removeprefix("PCM_")), 24))  # float32 holds 24 bits
    np.testing.assert_allclose(samples, written, atol=1.01 * step, rtol=0)


def test_decodes_a_real_recording_at_its_listed_length(shared_data: Path) -> None:
    rows = list(csv.DictReader((shared_data / "icbhi" / "manifest.csv").open()))
    rows = list({row["subtype"] + row["sample_rate"]: row for row in rows}.values())
    for row in rows:
        samples, rate = decode(shared_data / "icbhi" / "audio" / f"{row['recording']}.flac")
        assert rate == int(row["sample_rate"])
        assert abs(len(samples) - float(row["seconds"]) * rate) <= 0.001 * rate
    assert rows


def test_stereo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.zeros((100, 2), np.float32), 4000)
    with pytest.raises(UserError, match=r"stereo\.wav.*2 channels"):
        decode(path)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(0, np.float32), 4000)
    with pytest.raises(UserError, match=r"silent\.wav.*no sound"):
        decode(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"0.1\t0.5\t0\t1\n" * 50, "cannot be read as audio")],
    ids=["empty", "text"],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"broken\.wav.*{reason}"):
        decode(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.wav"):
        decode(tmp_path / "gone.wav")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize(("suffix", "width"), FORMATS)
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, width: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20000).astype(np.float32)
    soundfile.write(path, noise, 10000, subtype=width)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"cut\.{suffix}"):
        decode(path)


CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC")
EVERY_FILE = sorted(
    (container, width, endian)
    for container in soundfile.available_formats()
    for width in set(soundfile.available_subtypes(container)) & {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(container, width, endian)
)


@pytest.mark.parametrize(("container", "width", "endian"), EVERY_FILE)
def test_a_file_of_any_container_is_whole_or_refused(tmp_path: Path, container: str, width: str, endian: str) -> None:
    """Whatever libsndfile can write: read to the last sample, or refused; never taken for a shorter one when cut."""
    path = tmp_path / "sound"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    soundfile.write(path, noise, 8_000, subtype=width, endian=endian, format=container)
    whole = path.read_bytes()
    if container in CONTAINERS:
        np.testing.assert_allclose(decode(path)[0], noise, atol=2**-15)
    else:
        with pytest.raises(UserError):
            decode(path)
    for share in (0.3, 0.5, 0.95, 1 - 1e-3):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError):
            decode(path)


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),
        (36, 0),  # Python's wave, before it knows
        (0xFFFFFFFF, 0xFFFFFFFF),  # FFmpeg
        (0xFFFFFFFF, 0),
        (0x7FFFFFFF, 0x7FFFFFDB),
        (0x7FFFF024, 0x7FFFF000),  # SoX
        (0x80000024, 0x80000000),
    ],
)
def test_a_wav_of_unknown_length_is_what_is_there(tmp_path: Path, riff: int, data: int) -> None:
    path, written = tmp_path / "a.wav", tone(440, 1.37, 8_000)
    soundfile.write(path, written, 8_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(content + b"\0")  # half a sample more
    samples, _ = decode(path)
    np.testing.assert_allclose(samples, written, atol=2**-14)
    assert read_header(path)[0] == AudioHeader(8_000, len(written), 1, "PCM_16")


def test_no_samples_and_something_after_them_are_still_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 8_000, subtype="PCM_16")
    content = bytearray(path.read_bytes()[:44] + b"LIST" + struct.pack("<I", 400) + bytes(400))
    content[4:8], content[40:44] = struct.pack("<I", len(content) - 8), bytes(4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.wav.*no sound"):
        decode(path)


def test_a_flac_cannot_lie_about_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(440, 2, 8_000), 8_000)
    content = bytearray(path.read_bytes())
    for total, said in ((2**36 - 1, "truncated"), (0, "does not say how long it is")):
        content[21:26] = bytes([content[21] & 0xF0 | total >> 32]) + struct.pack(">I", total & 0xFFFFFFFF)
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            decode(path)


def test_nan_in_a_file_is_the_file_s_fault(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.wav", np.zeros(200_000)
    samples[150_000] = np.nan
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav.*NaN or infinite"):
        decode(path)
    header, (problem,) = read_header(path)
    assert header is None and problem.severity == "error" and "NaN or infinite" in problem.what


def test_whole_numbers_stored_as_floats_are_named_and_scaled_only_when_asked(tmp_path: Path) -> None:
    sound = tone(200, 1, 16_000)
    for name, factor in (("right.wav", 1), ("loud.wav", 2.4), ("whole.wav", 32_768)):
        soundfile.write(tmp_path / name, factor * sound, 16_000, subtype="FLOAT")
    problems = [read_header(tmp_path / name)[1] for name in ("right.wav", "loud.wav", "whole.wav")]
    assert [[one.severity for one in each] for each in problems] == [[], ["warning"], ["warning"]]
    assert "has a sample of 1.2;" in problems[1][0].what
    assert "has a sample of 16384;" in problems[2][0].what and "full_scale to 32768" in problems[2][0].hint
    with pytest.raises(UserError, match=r"whole\.wav.*has a sample of 16384"):
        load_recording(tmp_path / "whole.wav", 16_000, 0.0)
    scaled = load_recording(tmp_path / "whole.wav", 16_000, 0.0, full_scale=32_768)
    np.testing.assert_allclose(scaled, sound, atol=1e-6)
    for name, factor in (("right.wav", 1), ("loud.wav", 2.4)):  # a full scale leaves alone what needs none
        kept = load_recording(tmp_path / name, 16_000, 0.0, full_scale=32_768)
        np.testing.assert_allclose(kept, factor * sound, atol=1e-6)


def test_more_sound_than_asked_for_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(96_000 * 3), 96_000)
    assert len(decode(tmp_path / "a.flac", 6.0)[0]) == 288_000
    with pytest.raises(UserError, match="holds 3 s of sound at 96000 Hz, and at most 2 s are taken"):
        decode(tmp_path / "a.flac", 5.0)


def test_a_name_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 1, 8_000), 8_000)
    path = (tmp_path / "a.wav").rename(tmp_path / os.fsdecode(b"M\xe9d.wav"))
    assert len(decode(path)[0]) == 8_000


def test_a_flac_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hole.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 60000).astype(np.float32), 10000)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 20000] = bytes(20000)
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"hole\.flac"):
        decode(path)


# --- resample ---


@pytest.mark.spec("D16")
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("target", [16000, 32000])
def test_resampling_keeps_a_tone_and_the_duration(rate: int, target: int) -> None:
    there = resample(tone(1000, 2.0, rate), rate, target)
    assert abs(len(there) - 2.0 * target) <= 1
    spectrum = np.abs(np.fft.rfft(there * np.hanning(len(there))))
    assert np.argmax(spectrum) * target / len(there) == pytest.approx(1000, abs=0.5)
    middle = there[target // 2 : -target // 2]
    np.testing.assert_allclose(middle, tone(1000, 2.0, target)[target // 2 : -target // 2], atol=5e-3)


def test_resampling_down_removes_what_cannot_be_held() -> None:
    there = resample(tone(3000, 1.0, 16000), 16000, 4000)
    assert np.abs(there[200:-200]).max() < 0.01


# --- fade ---


@pytest.mark.spec("D17")
def test_fade_is_a_linear_ramp_at_both_ends() -> None:
    faded = fade(np.ones(16000, np.float32), 1000)
    for sample in (0, 500, 999):
        assert faded[sample] == pytest.approx(sample / 999, abs=1e-7)
        assert faded[-1 - sample] == pytest.approx(sample / 999, abs=1e-7)
    np.testing.assert_array_equal(faded[1000:-1000], 1.0)


def test_fade_equals_torchaudio() -> None:
    noise = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    expected = torchaudio.transforms.Fade(1000, 1000, "linear")(torch.from_numpy(noise)).numpy()
    np.testing.assert_allclose(fade(noise, 1000), expected, atol=1e-6)


def test_fade_leaves_its_input_alone_and_stands_short_input() -> None:
    short = np.ones(400, np.float32)
    faded = fade(short, 1000)
    assert short.min() == 1.0
    place = np.arange(400) / 999
    np.testing.assert_allclose(faded, place * place[::-1], atol=1e-6)


@pytest.mark.spec("D17")
def test_the_whole_recording_is_faded_after_resampling(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(200, 3.0, 4000), 4000, subtype="PCM_16")
    plain = load_recording(path, 16000, 0.0)
    faded = load_recording(path, 16000, 0.0625)
    np.testing.assert_allclose(faded[:1000], plain[:1000] * np.arange(1000) / 999, atol=1e-6)
    np.testing.assert_array_equal(faded[1000:-1000], plain[1000:-1000])
    assert len(plain) == 48000


# --- cut ---


@pytest.mark.spec("D15")
@given(
    start=st.floats(0, 20, allow_nan=False),
    seconds=st.floats(-1, 30, allow_nan=False),
    length=st.integers(1, 100_000),
    rate=st.sampled_from(RATES),
)
def test_cut_follows_the_published_formula(start: float, seconds: float, length: int, rate: int) -> None:
    end, waveform = start + seconds, ramp(length)
    first, last = min(int(start * rate), length), min(int(end * rate), length)
    if last <= first:
        with pytest.raises(UserError, match="no samples"):
            cut(waveform, start, end, rate)
    else:
        piece = cut(waveform, start, end, rate)
        assert (len(piece), piece[0], piece[-1]) == (last - first, first + 1, last)


@pytest.mark.spec("D15")
@pytest.mark.parametrize(("start", "end"), [(5.0, 6.0), (2.0, 9.0), (3.0, 3.0), (2.5, 2.4)])
def test_cut_beyond_the_end_or_backwards_is_refused(start: float, end: float) -> None:
    with pytest.raises(UserError, match=rf"from {start} to {end} s"):
        cut(ramp(2000), start, end, 1000)


# --- fit_length ---


@pytest.mark.spec("D18")
def test_repeat_tiles_and_fades_the_end_out() -> None:
    cycle, length = ramp(48000), 128000
    fitted = fit_length(cycle, length, "repeat", 1000)
    tiled = cycle[np.arange(length) % 48000]
    np.testing.assert_array_equal(fitted[:-1000], tiled[:-1000])
    np.testing.assert_allclose(fitted[-1000:], tiled[-1000:] * np.arange(999, -1, -1) / 999, rtol=1e-5)
    assert fitted[-1] == 0.0


def test_repeat_fades_a_cycle_of_just_the_length() -> None:
    fitted = fit_length(np.ones(4000, np.float32), 4000, "repeat", 1000)
    np.testing.assert_array_equal(fitted[:3000], 1.0)
    np.testing.assert_allclose(fitted[3000:], np.arange(999, -1, -1) / 999, atol=1e-6)


@pytest.mark.spec("D19")
@given(length=st.integers(1, 500), samples=st.integers(1, 500))
def test_padding_with_zeros_centres_the_cycle(length: int, samples: int) -> None:
    fitted = fit_length(ramp(length), samples, "zero", 100)
    if length > samples:
        np.testing.assert_array_equal(fitted, ramp(samples))
    else:
        left = (samples - length) // 2
        np.testing.assert_array_equal(fitted[left : left + length], ramp(length))
        assert np.count_nonzero(fitted) == length


@pytest.mark.spec("D21")
@pytest.mark.parametrize("pad", ["repeat", "zero"])
def test_a_longer_cycle_keeps_its_beginning_unfaded(pad: str) -> None:
    np.testing.assert_array_equal(fit_length(ramp(9000), 8000, pad, 1000), ramp(8000))


@pytest.mark.slow
@given(
    length=st.integers(1, 700), samples=st.integers(1, 700), pad=st.sampled_from(["repeat", "zero"]),
    fade_samples=st.integers(0, 1000),
)  # fmt: skip
def test_the_length_is_always_exact(length: int, samples: int, pad: str, fade_samples: int) -> None:
    fitted = fit_length(ramp(length), samples, pad, fade_samples)
    assert (len(fitted), fitted.dtype) == (samples, np.float32)


# --- all of it ---


@settings(max_examples=20)
@given(spans=st.lists(st.tuples(st.floats(0, 1.5), st.floats(0.1, 3)), min_size=1, max_size=5))
def test_cycles_are_cut_and_fitted_one_a_row(spans: list[tuple[float, float]]) -> None:
    spec, waveform = FbankSpec(sample_rate=1000, seconds=1.0, n_mels=8, shift_ms=20.0), ramp(2000)
    bounds = [(start, start + seconds) for start, seconds in spans]
    rows = cut_cycles(waveform, bounds, spec)
    assert [row.shape for row in rows] == [(1000,)] * len(spans)
    for row, (start, end) in zip(rows, bounds, strict=True):
        np.testing.assert_array_equal(row, fit_length(cut(waveform, start, end, 1000), 1000, "repeat", 62))
