"""From a recording's file to waveforms of one length: decode, resample, filter, fade, slice, pad, copy."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from feature_store.cycle_pieces import cut_pieces, slice_pieces
from feature_store.datasets.audio_header import LARGEST_SAMPLE, open_sound, read_length
from feature_store.errors import UserError
from feature_store.features.spec import Spec
from feature_store.waveform import augment, generator_of, white_noise
from feature_store.wavelet import denoised

FILTER_ORDER = 5
MOST_SAMPLES = 48_000  # a second, where the seconds to decode are limited
LARGEST_TERM = 2_000  # of the ratio of two rates: the resampler's filters grow with its square


def decode(path: Path, longest: float = math.inf) -> tuple[np.ndarray, int]:
    """A mono file's samples, float32, and its rate in Hz; WAV, FLAC and what else `read_header` takes.

    Samples lie in [-1, 1], but those of a float file may lie anywhere: see `at_full_scale`.

    Args:
        path: the file.
        longest: seconds of sound that are decoded at most, of as many samples as at 48 kHz.

    Raises:
        UserError: the file is missing, empty, truncated, not audio, not mono, too long, or holds NaN.
    """
    import soundfile

    try:
        header, problems = read_length(path)
        for problem in problems:
            if problem.severity == "error":
                raise UserError(problem.what, where=problem.where, hint=problem.hint or None)
        assert header is not None
        if header.seconds > (allowed := longest * min(1.0, MOST_SAMPLES / header.rate)):
            what = f"holds {header.seconds:,.0f} s of sound at {header.rate} Hz, and at most {allowed:,.0f} s are taken"
            raise UserError(what, where=str(path))
        with open_sound(path) as (file, _):
            samples, rate = file.read(dtype="float32"), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError("is not an audio file that can be read", where=str(path), hint=str(error)) from error
    if len(samples) < header.frames:
        raise UserError(f"is truncated: {len(samples)} of {header.frames} samples", where=str(path))
    if not np.isfinite(samples).all():
        raise UserError("holds samples that are NaN or infinite", where=str(path))
    return samples, rate


def at_full_scale(samples: np.ndarray, full_scale: float | None, where: str) -> np.ndarray:
    """Samples of a float file or of a list as features take them; those of whole numbers are divided by `full_scale`.

    A float recording may pass 1 a little and is taken as it is. What passes 16 is whole numbers stored as floats.

    Raises:
        UserError: samples pass 16, and there is no full scale or it leaves them there.
    """
    largest = float(np.abs(samples).max(initial=0.0))
    if largest > LARGEST_SAMPLE and full_scale:
        samples, largest = samples / np.float32(full_scale), largest / full_scale
    if largest > LARGEST_SAMPLE:
        hint = "samples lie between -1 and 1: divide those of 16 bit by 32768, or set the feature's full_scale to it"
        raise UserError(f"has a sample of {largest:g}", where=where, hint=hint)
    return samples


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Windowed-sinc resampling as torchaudio's `transforms.Resample`, which Patch-Mix calls; ``[samples]`` float32.

    The ratio of the rates is cut down to small terms. That changes no usual rate; one such as 44,101 Hz, whose filters
    would fill gigabytes, is taken for one that differs from it by less than a millionth.
    """
    if rate == target:
        return waveform
    ratio = Fraction(min(rate, target), max(rate, target)).limit_denominator(LARGEST_TERM)
    import torch

    with torch.inference_mode():
        resampler = _resampler(*sorted(ratio.as_integer_ratio(), reverse=rate > target))
        return resampler(torch.from_numpy(waveform)).numpy()


@functools.lru_cache(maxsize=8)  # ICBHI has four rates
def _resampler(rate: int, target: int):
    """A resampler with its kernel, which is computed in float64 and kept in float32.

    torchaudio's functional `resample` computes the kernel in float32 at every call, which shifts quiet bins of a
    filter bank by up to 0.07 standard deviations.
    """
    from torchaudio.transforms import Resample

    return Resample(rate, target)


def fade(waveform: np.ndarray, samples: int, *, start: bool = True, end: bool = True) -> np.ndarray:
    """A copy with linear ramps: from 0 over the first samples, to 0 over the last.

    The ramps are those of torchaudio's `Fade` to the last bit: the falling one is 1 minus the rising one.
    """
    faded = waveform.copy()
    length = min(samples, len(waveform))
    if length:
        ramp = _ramp(samples)
        if start:
            faded[:length] *= ramp[:length]
        if end:
            faded[-length:] *= (1 - ramp)[-length:]
    return faded


@functools.lru_cache(maxsize=8)
def _ramp(samples: int) -> np.ndarray:
    """From 0 to 1, ``[samples]`` float32, rounded as torch rounds it."""
    import torch

    return torch.linspace(0, 1, samples).numpy()


def band_pass(waveform: np.ndarray, rate: int, band: tuple[float, float]) -> np.ndarray:
    """Butterworth filter of order 5, causal as in RespireNet: its two edges (Hz) are 3 dB down."""
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(FILTER_ORDER, band, "bandpass", fs=rate, output="sos"), waveform).astype(np.float32)


def load_recording(
    path: Path,
    sample_rate: int,
    fade_seconds: float,
    band: tuple[float, float] | None = None,
    full_scale: float | None = None,
) -> np.ndarray:
    """A whole recording at a rate, filtered if a band is given, faded in and out once, ``[samples]`` float32.

    Raises:
        UserError: as `decode` and `at_full_scale`.
    """
    samples, rate = decode(path)
    return condition(at_full_scale(samples, full_scale, str(path)), rate, sample_rate, fade_seconds, band)


def condition(
    samples: np.ndarray, rate: int, sample_rate: int, fade_seconds: float, band: tuple[float, float] | None = None
) -> np.ndarray:
    """Decoded samples as features take them: resampled, filtered if a band is given, faded in and out once."""
    waveform = resample(samples, rate, sample_rate)
    if band:
        waveform = band_pass(waveform, sample_rate, band)
    return fade(waveform, round(sample_rate * fade_seconds))


def cut(waveform: np.ndarray, start: float, end: float, rate: int) -> np.ndarray:
    """The samples from `start` to `end` seconds, both cut down to whole samples and to the waveform's end.

    Raises:
        UserError: nothing is left.
    """
    first, last = (int(min(second * rate, len(waveform))) for second in (start, end))
    if last <= first:
        raise UserError(f"the cycle from {start} to {end} s has no samples", hint="correct its annotation")
    return waveform[first:last]


def fit_length(cycle: np.ndarray, samples: int, pad: str, fade_samples: int, keep: str = "first") -> np.ndarray:
    """A cycle at exactly `samples`: its beginning (`keep` first) or its end (last) if it is longer, else filled.

    ``repeat`` tiles it and fades the end out; ``zero`` centres it in silence (Patch-Mix's two paddings).
    """
    length = len(cycle)
    if length > samples:
        return cycle[-samples:] if keep == "last" else cycle[:samples]
    if pad == "zero":
        fitted = np.zeros(samples, dtype=cycle.dtype)
        left = (samples - length) // 2
        fitted[left : left + length] = cycle
        return fitted
    return fade(np.tile(cycle, math.ceil(samples / length))[:samples], fade_samples, start=False)


def fit(cycle: np.ndarray, spec: Spec) -> np.ndarray:
    """A cycle as a feature takes it: at the spec's length, or with ``stretch`` at its own, cut if longer.

    ``augment`` fills it with augmented copies of itself, each changed by one operator of `waveform` and thus not
    always of its length, and fades the end out. What is drawn depends on the cycle alone.
    """
    fade_samples = round(spec.sample_rate * spec.fade_seconds)
    if spec.pad == "stretch" and len(cycle) <= spec.samples:
        return cycle
    if spec.pad == "augment" and len(cycle) <= spec.samples:
        rng, pieces, missing = generator_of(cycle, "pad"), [cycle], spec.samples - len(cycle)
        while missing > 0:
            pieces.append(augment(cycle, spec.sample_rate, rng))
            missing -= len(pieces[-1])
        return fade(np.concatenate(pieces)[: spec.samples], fade_samples, start=False)
    return fit_length(cycle, spec.samples, spec.pad, fade_samples, spec.keep)


def cut_cycles(waveform: np.ndarray, spans: Sequence[tuple[float, float]], spec: Spec) -> list[np.ndarray]:
    """Cycles of a recording as a feature takes them, each ``[samples]`` float32: of one length unless stretched.

    Raises:
        UserError: as `cut`.
    """
    return [fit(_cut_denoised(waveform, span, spec), spec) for span in spans]


def cut_cycle_pieces(
    waveform: np.ndarray, span: tuple[float, float], spec: Spec
) -> tuple[list[np.ndarray], list[float]]:
    """One cycle of a recording in pieces as a feature takes them, and the seconds of each that are its own sound.

    A cycle that is not longer than the feature is one piece, as from `cut_cycles`. A longer one is cut by
    `slice_pieces`, and the last piece, which alone is shorter than the feature, is fitted as a short cycle is.

    Raises:
        UserError: as `cut`.
    """
    *whole, last = slice_pieces(_cut_denoised(waveform, span, spec), spec.samples)
    pieces = [*whole, fit(last, spec)]
    return pieces, [spec.seconds] * len(whole) + [len(last) / spec.sample_rate]


def with_copies(cycle: np.ndarray, spec: Spec) -> list[np.ndarray]:
    """A fitted cycle and after it the spec's augmented copies, each changed by one operator of `waveform`.

    With `copy_of` previous a copy is made of the one before it and fitted again, which repeats the fade at its end.
    With `cycle` it is made of the cycle itself and, where the operator has shortened it, filled up on a random side.
    With `copy_by` noise it is the cycle and white noise, or by the complement of `noise_chance` the cycle alone.
    What is drawn depends on the cycle alone.
    """
    parts = 8 if spec.copy_by == "noise" else 1  # who gets noise has to be many throws, and levels are soon alike
    rng, versions = generator_of(cycle, "copies", parts), [cycle]
    for _ in range(spec.copies):
        if spec.copy_by == "noise":
            noisy = rng.random() < spec.noise_chance
            versions.append(white_noise(cycle, spec.noise_sigma, rng) if noisy else cycle)
        elif spec.copy_of == "cycle":
            versions.append(cut_pieces(augment(cycle, spec.sample_rate, rng), spec.samples, rng)[0])
        else:
            versions.append(fit(augment(versions[-1], spec.sample_rate, rng), spec))
    return versions


def _cut_denoised(waveform: np.ndarray, span: tuple[float, float], spec: Spec) -> np.ndarray:
    cycle = cut(waveform, *span, spec.sample_rate)
    return denoised(cycle, spec.denoise) if spec.denoise else cycle
