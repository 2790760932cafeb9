"""F4, blank-region clipping, on images whose blank bins are known."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.features import FbankSpec
from feature_store.features.blank_clipping import clip_blank_bins

FRAMES, BINS = 100, 40


def image_of(blank: int, seed: int = 0) -> np.ndarray:
    """Grey values of 20 to 255 over a floor of 0, the upper bins at the floor."""
    image = np.random.default_rng(seed).uniform(20, 255, (FRAMES, BINS)).astype(np.float32)
    image[0, 0], image[1, 0] = 0, 255
    image[:, BINS - blank :] = 0
    return image


@pytest.mark.spec("F4")
@pytest.mark.parametrize("blank", [0, 1, 7, BINS - 1])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.01, -1.3), (30.0, 1000.0)])
def test_exactly_the_blank_top_bins_go(blank: int, gain: float, offset: float) -> None:
    """Whatever the scale of the feature: it is the cycle's own range that counts."""
    image = gain * image_of(blank) + offset
    np.testing.assert_array_equal(clip_blank_bins(image), image[:, : BINS - blank])


@pytest.mark.spec("F4")
@pytest.mark.parametrize(("filled", "value", "blank"), [(20, 10.5, True), (21, 10.5, False), (21, 9.5, True)])
def test_a_bin_is_blank_when_80_percent_of_its_frames_are_below_10(filled: int, value: float, blank: bool) -> None:
    image = image_of(1)
    image[:filled, -1] = value
    assert clip_blank_bins(image).shape[1] == (BINS - 1 if blank else BINS)


@pytest.mark.spec("F4")
def test_blank_bins_below_the_edge_stay() -> None:
    image = image_of(3)
    image[:, :5] = 0
    image[:, 20] = 0
    image[0, 10] = 255
    np.testing.assert_array_equal(clip_blank_bins(image), image[:, : BINS - 3])


@pytest.mark.spec("F4")
@pytest.mark.parametrize("peaks", [0, 1])
def test_an_image_that_is_blank_everywhere_is_unchanged(peaks: int) -> None:
    image = np.zeros((FRAMES, BINS), np.float32)
    image[:peaks, 3] = 1
    np.testing.assert_array_equal(clip_blank_bins(image), image)


@pytest.mark.spec("F4")
def test_the_rest_is_enlarged_to_the_feature_s_shape() -> None:
    """Noise below 2 kHz only: what is kept of the 64 bins is spread over all, so a low tone's bin rises."""
    plain = FbankSpec(seconds=1.0, n_mels=64)
    spec = plain.model_copy(update={"clip_blank": True})
    time = np.arange(spec.samples) / spec.sample_rate
    waveform = (0.3 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=spec.samples))
    spectrum[2000:] = 0
    waveform += (0.1 * np.fft.irfft(spectrum)).astype(np.float32)
    (before,), (after,) = plain.compute(waveform[None]), spec.compute(waveform[None])
    kept = clip_blank_bins(before).shape[1]
    assert 25 < kept < 50  # 2 kHz is bin 36 of 64
    assert after.shape == spec.shape
    tone_before, tone_after = before.mean(axis=0).argmax(), after.mean(axis=0).argmax()
    assert tone_after + 0.5 == pytest.approx((tone_before + 0.5) * 64 / kept, abs=1)
