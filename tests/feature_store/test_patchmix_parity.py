"""From a file to filter banks as Patch-Mix CL's own chain gives them (docs/parity.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.transforms import Fade, Resample

from feature_store.audio import fade, resample
from tests.parity.patchmix import RATES, difference


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
def test_filter_banks_of_real_recordings_are_the_originals(shared_data: Path, rate: int) -> None:
    assert difference(rate, count=2) < 1e-5


@pytest.mark.spec("D16")
@pytest.mark.parametrize("target", [16000, 22000, 22050, 32000, 44100])
@pytest.mark.parametrize("rate", [4000, 8000, 10000, 44100, 48000])
def test_resampling_is_torchaudios_transform_to_the_last_bit(rate: int, target: int) -> None:
    """Its kernel is made in float64; the functional `resample` makes it in float32."""
    noise = np.random.default_rng(rate).normal(size=2 * rate).astype(np.float32)
    expected = Resample(rate, target)(torch.from_numpy(noise)).numpy()
    np.testing.assert_array_equal(resample(noise, rate, target), expected)


@pytest.mark.spec("D17")
@pytest.mark.parametrize("samples", [2, 62, 1000, 2756])
def test_a_fade_is_torchaudios_to_the_last_bit(samples: int) -> None:
    noise = np.random.default_rng(samples).normal(size=8000).astype(np.float32)
    expected = Fade(samples, samples, "linear")(torch.from_numpy(noise)).numpy()
    np.testing.assert_array_equal(fade(noise, samples), expected)
