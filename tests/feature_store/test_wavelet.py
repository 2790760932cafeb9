"""Wavelet denoising (docs/specification.md, A8)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.audio import cut_cycles
from feature_store.features import HybridSpec
from feature_store.wavelet import decompose, denoised, reconstruct, scaling_filter

DB6 = [  # as published
    0.11154074335008017, 0.4946238903983854, 0.7511339080215775, 0.3152503517092432, -0.22626469396516913,
    -0.12976686756709563, 0.09750160558707936, 0.02752286553001629, -0.031582039318031156, 0.0005538422009938016,
    0.004777257511010651, -0.00107730108499558,
]  # fmt: skip


@pytest.mark.spec("A8")
def test_the_filter_is_daubechies_of_order_6() -> None:
    np.testing.assert_allclose(scaling_filter(), DB6, atol=1e-8)


@pytest.mark.spec("A8")
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 99))
def test_the_round_trip_of_the_source_is_an_identity(length: int, seed: int) -> None:
    sound = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    assert np.abs(denoised(sound, 0.0) - sound).max() < 1e-4
    approximation, details = decompose(sound)
    assert np.abs(reconstruct(approximation, details)[:length] - sound).max() < 1e-6


@pytest.mark.spec("A8")
def test_energy_is_kept_and_a_polynomial_has_no_details() -> None:
    sound = np.random.default_rng(0).standard_normal(4096)
    approximation, details = decompose(sound)
    assert (approximation**2).sum() + sum((d**2).sum() for d in details) == pytest.approx((sound**2).sum())
    place = np.linspace(-1, 1, 4096)
    _, details = decompose(place**5 - 2 * place**2)
    assert np.abs(details[0][:-8]).max() < 1e-9, "six vanishing moments, but where the period is closed"


@pytest.mark.spec("A8")
def test_with_a_threshold_noise_goes_and_the_sound_stays() -> None:
    clean = np.sin(2 * np.pi * 200 * np.arange(22000) / 22000)
    noisy = (clean + 0.2 * np.random.default_rng(1).standard_normal(22000)).astype(np.float32)
    before, after = (np.mean((sound - clean) ** 2) for sound in (noisy, denoised(noisy, 1.0)))
    assert after < before / 3
    assert not denoised(np.zeros(100, np.float32), 1.0).any()


@pytest.mark.spec("A8")
def test_a_feature_that_asks_for_it_hears_denoised_cycles() -> None:
    spec = HybridSpec(seconds=1.0, bins=24, bins_per_octave=6, low_hz=100.0)
    sound = np.random.default_rng(2).standard_normal(44000).astype(np.float32)
    [plain] = cut_cycles(sound, [(0.5, 1.5)], spec)
    [quiet] = cut_cycles(sound, [(0.5, 1.5)], spec.model_copy(update={"denoise": 1.0}))
    np.testing.assert_array_equal(quiet, denoised(plain, 1.0))
    assert np.std(quiet) < 0.8 * np.std(plain)
