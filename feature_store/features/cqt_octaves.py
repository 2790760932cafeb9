"""The constant-Q transform by octaves, as nnAudio's `CQT2010v2` computes it for CycleGuardian."""

from __future__ import annotations

import functools
import math

import numpy as np

from feature_store.features.cqt import ConstantQ

TAPS, TRANSITION = 256, 0.001  # of the low-pass filter before each halving; as a share of its edge


def octaves_of(transform: ConstantQ) -> int:
    """Octaves that hold its bins; the lowest may not be whole."""
    return math.ceil(transform.bins / transform.bins_per_octave)


def check_octaves(transform: ConstantQ) -> None:
    """Whether the rate and the hop can be halved from octave to octave, from the full rate on.

    Raises:
        ValueError: the hop cannot be halved so often, or nnAudio would lower the rate at the beginning.
    """
    octaves = octaves_of(transform)
    if transform.hop % 2 ** (octaves - 1):
        raise ValueError(f"cqt seed_compat halves the hop {octaves - 1} times: {transform.hop} is no such multiple")
    q = 1 / (2 ** (1 / transform.bins_per_octave) - 1)
    highest = float(transform.frequencies[-1]) * (1 + 0.75 / q)
    if math.ceil(math.log2(0.85 * (transform.rate // 2) / highest)) > 2:
        raise ValueError("cqt seed_compat takes bins up to a fifth of Nyquist at least: raise bins or low_hz")


def magnitude_by_octaves(transform: ConstantQ, signal: np.ndarray) -> np.ndarray:
    """``[samples]`` float32 to ``[frames, bins]`` float32, each bin weighted by the root of its window's samples.

    The waves of the highest octave serve all; before each lower one the sound passes a filter of 256 taps and every
    second sample is left. The filter is 6 dB down at the new Nyquist frequency and delays by half a sample.
    """
    import torch
    from torch.nn.functional import conv1d, pad

    basis, low_pass = (torch.from_numpy(each)[:, None] for each in _basis_and_filter(transform))
    width, found = basis.shape[-1], []
    sound = torch.from_numpy(signal)[None, None]
    for octave in range(octaves_of(transform)):
        mode = "reflect" if sound.shape[-1] > width // 2 else "constant"
        around = pad(sound, (width // 2, width // 2), mode=mode)
        parts = conv1d(around, basis, stride=transform.hop >> octave)[0].unflatten(0, (2, -1))
        found.append(parts.square().sum(dim=0).sqrt())
        sound = conv1d(sound, low_pass, stride=2, padding=(TAPS - 1) // 2)
    rows = torch.cat(found[::-1])[-transform.bins :, : transform.frames]
    return (rows.numpy() * np.sqrt(transform.lengths.astype(np.float32))[:, None]).T


@functools.lru_cache(maxsize=4)
def _basis_and_filter(transform: ConstantQ) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary waves of the highest octave, ``[2 * waves, samples]``, and the filter ``[1, 256]``."""
    from scipy.signal import firwin2

    count = min(transform.bins, transform.bins_per_octave)
    hertz = transform.frequencies[-1] * 2 ** (np.arange(1 - transform.bins_per_octave, 1) / transform.bins_per_octave)
    lengths = np.ceil(transform.rate / hertz / (2 ** (1 / transform.bins_per_octave) - 1)).astype(int)[-count:]
    size = 1 << math.ceil(math.log2(lengths.max()))
    waves = np.zeros((count, size), np.complex64)
    for wave, turns, length in zip(waves, hertz[-count:] / transform.rate, lengths, strict=True):
        place = np.arange(length) - (length + 1) // 2
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        wave[size // 2 + place] = window / window.sum() * np.exp(2j * np.pi * turns * place)
    low_pass = firwin2(TAPS, [0, 0.5 / (1 + TRANSITION), 0.5 * (1 + TRANSITION), 1], [1, 1, 0, 0])
    return np.concatenate([waves.real, waves.imag]), low_pass.astype(np.float32)[None]
