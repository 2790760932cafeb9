"""Made-up lung sounds: breath noise, wheezes, crackles and heart sounds, each from its description in the literature.

Wheezes: continuous tones of 100 to 1,000 Hz that last over 80 ms; crackles: explosive bursts of 5 to 15 ms
(Sovijarvi et al. 2000, "Characteristics of breath sounds and adventitious respiratory sounds").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INHALE_SHARE = 0.42  # of a cycle; a short pause follows, then the longer, softer and duller exhalation
EXHALE_FROM = 0.48
HARMONICS = (1.0, 0.45, 0.2)  # relative amplitudes in a wheeze


@dataclass(frozen=True)
class Device:
    """How a recording device sounds and stores: rate in Hz, sample format, pass band in Hz, noise against breath."""

    rate: int
    sample_format: str
    band: tuple[float, float]
    noise: float


DEVICES = {
    "Meditron": Device(44100, "PCM_24", (40, 1800), 0.05),
    "LittC2SE": Device(16000, "PCM_16", (60, 1200), 0.10),
    "Litt3200": Device(4000, "PCM_16", (30, 1000), 0.08),
    "AKGC417L": Device(44100, "PCM_32", (70, 2200), 0.15),
}


def band_noise(samples: int, rate: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """[samples] noise of unit root mean square between two frequencies in Hz."""
    from scipy import signal

    sos = signal.butter(2, [low, min(high, 0.45 * rate)], "bandpass", fs=rate, output="sos")
    noise = signal.sosfilt(sos, rng.standard_normal(samples))
    return noise / np.sqrt(np.mean(noise**2))


def breath_envelopes(times: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loudness over time, 0 to 1, of the inhalations and the exhalations: two arrays like `times` (seconds).

    `starts` and `ends` are those of the cycles, ascending and without overlap.
    """
    cycle = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, len(starts) - 1)
    phase = (times - starts[cycle]) / (ends[cycle] - starts[cycle])
    phase = np.where((phase >= 0) & (phase < 1), phase, 0)
    inhale = np.where(phase < INHALE_SHARE, np.sin(np.pi * phase / INHALE_SHARE), 0)
    exhale = np.where(phase > EXHALE_FROM, np.sin(np.pi * (phase - EXHALE_FROM) / (1 - EXHALE_FROM)), 0)
    return np.clip(inhale, 0, 1) ** 0.7, np.clip(exhale, 0, 1) ** 1.3


def breath(times: np.ndarray, starts: np.ndarray, ends: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Breath noise like `times`; inhalation is louder and brighter."""
    inhale, exhale = breath_envelopes(times, starts, ends)
    bright = band_noise(len(times), rate, 150, 900, rng)
    dull = band_noise(len(times), rate, 80, 450, rng)
    return inhale * bright + 0.6 * exhale * dull


def wheeze(seconds: float, frequency: float, drift: float, rate: int) -> np.ndarray:
    """A tone with harmonics whose pitch glides by the share `drift` of its frequency.

    The ground tone has unit amplitude. Both ends are faded over 20 ms. Harmonics above 0.45 of the rate are left out.
    """
    times = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * frequency * (times + drift * times**2 / (2 * seconds))
    highest = frequency * (1 + abs(drift))
    tones = [a * np.sin(n * phase) for n, a in enumerate(HARMONICS, start=1) if n * highest < 0.45 * rate]
    fade = np.clip(np.minimum(times, times[::-1]) / 0.02, 0, 1)
    return np.sum(tones, axis=0) * fade


def crackle(seconds: float, frequency: float, rate: int) -> np.ndarray:
    """A damped oscillation that starts at once, peaks at about 1 and is gone after `seconds`."""
    times = np.arange(max(int(seconds * rate), 2)) / rate
    burst = np.exp(-4 * times / seconds) * np.sin(2 * np.pi * frequency * times)
    burst *= 1 - times / seconds
    return burst / np.abs(burst).max()


def heart(times: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Two low thumps a beat at 55 to 95 beats a minute, like `times`: what a model must not take for a crackle."""
    from scipy import signal

    beat = 60 / rng.uniform(55, 95)
    thump = crackle(0.09, rng.uniform(35, 60), rate)
    impulses = np.zeros(len(times))
    for onset in (0.0, 0.32 * beat):
        at = (np.arange(rng.uniform(0, beat) + onset, times[-1], beat) * rate).astype(int)
        impulses[at[at < len(times)]] += 1.0
    return signal.fftconvolve(impulses, thump)[: len(times)]


def record(sound: np.ndarray, device: Device, rng: np.random.Generator) -> np.ndarray:
    """The sound as the device hears it: coloured, with its own noise, at a peak of 0.5 to 0.9."""
    from scipy import signal

    low, high = device.band
    sos = signal.butter(2, [low, min(high, 0.45 * device.rate)], "bandpass", fs=device.rate, output="sos")
    heard = signal.sosfilt(sos, sound) + device.noise * rng.standard_normal(len(sound))
    return heard * (rng.uniform(0.5, 0.9) / np.abs(heard).max())
