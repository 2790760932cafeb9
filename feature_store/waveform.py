"""Five small changes of a cycle's sound (noise, speed, loudness, vocal tract length and pitch), and white noise.

Zones and ranges are those that Patch-Mix CL and CycleGuardian give nlpaug. Each takes a waveform
``[samples]`` float32, its rate in Hz and a generator, and returns a new float32 waveform: finite for finite input,
silent for silence, not clipped to [-1, 1]. The changed part is blended with the old one over 10 ms at both of its
ends, since a click would look like a crackle. A part without samples is left as it is, and so is one shorter than a
window of 64 ms where the change is made on a spectrum (speed, vocal tract, pitch).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

ZONE = (0.2, 0.8)  # of the waveform: where an operator works
NOISE_DB = (10.0, 30.0)
SPEED = (0.5, 2.0)
LOUDNESS = (0.5, 2.0)
VTLP_COVERAGE, VTLP_ALPHA, VTLP_FHI = 0.1, (0.9, 1.1), 4800.0
SEMITONES = (-1.0, 3.0)
BLEND_SECONDS = 0.01
WINDOW_SECONDS = 0.064

Operator = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def noise(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise over the zone, 10 to 30 dB below the zone's own level.

    nlpaug adds noise of one absolute level (about 0.005 in 5 s at 16 kHz), whatever the recording's; auscultation
    spans 40 dB of levels, so here it follows the signal.
    """
    below = rng.uniform(*NOISE_DB)

    def add(piece: np.ndarray) -> np.ndarray:
        return piece + level(piece) * 10 ** (-below / 20) * rng.standard_normal(len(piece))

    return _change(waveform, rate, ZONE, add)


def speed(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The zone played 0.5 to 2 times as fast at the same pitch, by a phase vocoder: the length changes."""
    factor = rng.uniform(*SPEED)
    return _change(waveform, rate, ZONE, lambda piece: _stretch(piece, rate, factor))


def loudness(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The zone 0.5 to 2 times as loud."""
    factor = rng.uniform(*LOUDNESS)
    return _change(waveform, rate, ZONE, lambda piece: piece * factor)


def vtlp(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Another vocal tract length for a tenth of the waveform, anywhere in it: frequencies times 0.9 to 1.1.

    The curve is that of Jaitly & Hinton (2013), as `vtlp_curve`.
    """
    start, alpha = rng.uniform(0, 1 - VTLP_COVERAGE), rng.uniform(*VTLP_ALPHA)
    zone = (start, start + VTLP_COVERAGE)
    return _change(waveform, rate, zone, lambda piece: _warp(piece, rate, lambda f: vtlp_curve(f, alpha, rate)))


def pitch(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The zone 1 semitone lower to 3 higher, all frequencies by one factor; the length stays."""
    factor = 2 ** (rng.uniform(*SEMITONES) / 12)
    return _change(waveform, rate, ZONE, lambda piece: _warp(piece, rate, lambda f: f * factor))


OPERATORS: dict[str, Operator] = {
    "noise": noise,
    "speed": speed,
    "loudness": loudness,
    "vtlp": vtlp,
    "pitch": pitch,
}


def augment(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One of the five, drawn uniformly: ``[samples]`` float32 to ``[samples or other]`` float32."""
    operators = list(OPERATORS.values())
    return operators[rng.integers(len(operators))](waveform, rate, rng)


def white_noise(waveform: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of one deviation over all of a waveform ``[samples]``, silence too: float32, the same length.

    What crnn-audio-classification adds, with a sigma of 0.001. The level is absolute, unlike that of `noise`: a
    waveform of level r is then 20 log10(r / sigma) dB above it.
    """
    return (waveform + sigma * rng.standard_normal(len(waveform))).astype(np.float32)


def generator_of(cycle: np.ndarray, purpose: str, parts: int = 1) -> np.random.Generator:
    """The dice of a cycle: the same wherever and in whatever order cycles are computed, in a build as in inference.

    Seeded by the purpose, the length and the level to two digits, of the whole or of each of so many parts. The
    samples themselves would not do: resampling rounds their last bits differently on other processors. Cycles that
    share a seed by chance do no harm, and eight parts make them rare.
    """
    levels = [f"{level(part):.1e}" for part in np.array_split(cycle, max(1, min(parts, len(cycle))))]
    text = "\n".join([purpose, str(len(cycle)), *levels])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def level(waveform: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def vtlp_curve(hertz: np.ndarray, alpha: float, rate: int) -> np.ndarray:
    """Where each frequency goes: times alpha up to a bend near 4,800 Hz, then straight to Nyquist, which stays.

    At rates that do not hold the bend it lies at 0.9 of Nyquist.
    """
    nyquist = rate / 2
    top = min(VTLP_FHI, 0.9 * nyquist) * min(alpha, 1.0)
    bend = top / alpha
    return np.where(hertz <= bend, hertz * alpha, nyquist - (nyquist - top) / (nyquist - bend) * (nyquist - hertz))


# --- within ---


def _change(
    waveform: np.ndarray, rate: int, zone: tuple[float, float], change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The waveform with a zone (shares of its length) changed, old and new blended at the zone's ends."""
    first, last = (int(share * len(waveform)) for share in zone)
    old = waveform[first:last]
    if not len(old):
        return waveform.copy()
    new = np.array(change(old), np.float32)
    blend = min(round(BLEND_SECONDS * rate), len(old) // 2, len(new) // 2)
    if blend:
        ramp = np.linspace(0, 1, blend, dtype=np.float32)
        new[:blend] = ramp * new[:blend] + (1 - ramp) * old[:blend]
        new[-blend:] = ramp[::-1] * new[-blend:] + (1 - ramp[::-1]) * old[-blend:]
    return np.concatenate([waveform[:first], new, waveform[last:]])


def _window(rate: int) -> int:
    """Samples of an analysis window: a power of two, about 64 ms."""
    return 1 << max(4, round(math.log2(WINDOW_SECONDS * rate)))


def _spectrum(piece: np.ndarray, window: int, hop: int):
    """Window ``[window]`` and spectrum ``[bins, windows]``, torch.

    Silence at the edges, not the piece mirrored: the phases of the first window are those that all others build on.
    """
    import torch

    hann = torch.hann_window(window)
    signal = torch.from_numpy(piece.copy())
    return hann, torch.stft(signal, window, hop, window=hann, pad_mode="constant", return_complex=True)


def _stretch(piece: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """``[samples]`` to ``[samples / factor]`` at the same pitch."""
    import torch
    from torchaudio.functional import phase_vocoder

    window = _window(rate)
    if len(piece) < window:
        return piece
    hop = window // 4
    hann, spectrum = _spectrum(piece, window, hop)
    advance = torch.linspace(0, math.pi * hop, window // 2 + 1)[:, None]
    stretched = phase_vocoder(spectrum, factor, advance)
    return torch.istft(stretched, window, hop, window=hann, length=round(len(piece) / factor)).numpy()


def _warp(piece: np.ndarray, rate: int, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Move every frequency along a rising curve (Hz to Hz, 0 to 0) and keep the length: ``[samples]`` to the same.

    Magnitudes are interpolated between bins. Phases advance by the moved frequency that each bin was measured to
    hold, so that a tone remains one. Phases are those at the middle of a window: there the bins of a tone agree.
    Noise keeps no such order and comes out up to 3 dB quieter.
    """
    import torch

    window = _window(rate)
    if len(piece) < window:
        return piece
    hop, bins = window // 4, np.arange(window // 2 + 1)
    hann, complex_values = _spectrum(piece, window, hop)
    middle = np.where(bins % 2, -1, 1)[:, None]
    spectrum = complex_values.numpy() * middle
    moved = curve(bins * rate / window) * window / rate
    source = np.interp(bins, moved, bins)
    lower = np.minimum(source.astype(int), bins[-1] - 1)
    share = (source - lower)[:, None]
    magnitude = (1 - share) * np.abs(spectrum[lower]) + share * np.abs(spectrum[lower + 1])
    magnitude[bins > moved[-1]] = 0  # nothing has come that high
    nearest = np.rint(source).astype(int)
    phase = np.angle(spectrum)
    turn = 2 * np.pi * hop / window  # a bin's advance from window to window
    excess = np.diff(phase, axis=1) - turn * bins[:, None]
    held = bins[:, None] + (excess - 2 * np.pi * np.round(excess / (2 * np.pi))) / turn  # frequency, in bins
    steps = turn * np.interp(held[nearest], bins, moved)
    phases = np.cumsum(np.concatenate([phase[nearest, :1], steps], axis=1), axis=1)
    warped = torch.from_numpy((magnitude * np.exp(1j * phases) * middle).astype(np.complex64))
    return torch.istft(warped, window, hop, window=hann, length=len(piece)).numpy()
