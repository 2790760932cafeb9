"""Cepstral coefficients against torchaudio's, their sizes, and sounds that have none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_mfcc_golden import FRAMES, GOLDEN, SIZES
from make_mfcc_golden import vowel as golden_vowel
from torchaudio.transforms import MFCC

from feature_store.audio import cut_cycles
from feature_store.errors import UserError
from feature_store.features import resolve_feature
from feature_store.features.mfcc import MfccSpec
from tests.support.voice_clips import vowel


@pytest.mark.spec("F10")
@pytest.mark.parametrize("size", SIZES)
def test_a_second_at_44_kHz_has_126_frames_of_each_published_size(size: int) -> None:
    spec = MfccSpec(n_mfcc=size)
    assert (spec.shortest, spec.hop) == (705, 352)
    values = spec.compute([vowel(2, 1)])
    assert values.shape == (1, 126, size) and values.dtype == np.float32
    np.testing.assert_allclose(values.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=2), 1, atol=1e-5)


@pytest.mark.spec("F10")
@pytest.mark.parametrize("size", SIZES)
def test_the_coefficients_are_librosas_standardised_by_frame(size: int) -> None:
    golden = json.loads(GOLDEN.read_text())[str(size)]
    (values,) = MfccSpec(n_mfcc=size).compute([golden_vowel()])
    assert [*values.T.shape] == golden["shape"]
    np.testing.assert_allclose(values[list(FRAMES)], golden["frames"], atol=2e-4)


@pytest.mark.spec("F10")
def test_at_an_even_window_the_coefficients_are_torchaudios() -> None:
    """At an odd one torchaudio places its mel filters a little differently from librosa."""
    import torch

    mels = {
        "n_fft": 704,
        "hop_length": 352,
        "n_mels": 128,
        "pad_mode": "constant",
        "norm": "slaney",
        "mel_scale": "slaney",
    }
    chain = MFCC(44000, n_mfcc=30, melkwargs=mels)
    sound = vowel(3, 4, 44000)
    wanted = chain(torch.from_numpy(sound)).numpy().T
    wanted = (wanted - wanted.mean(axis=1, keepdims=True)) / wanted.std(axis=1, keepdims=True)
    np.testing.assert_allclose(MfccSpec(sample_rate=44000, n_mfcc=30).compute([sound])[0], wanted, atol=2e-4)


@pytest.mark.parametrize("sound", (np.zeros(44100), np.full(44100, 0.5)), ids=("silent", "constant"))
def test_sound_without_any_change_has_finite_coefficients(sound: np.ndarray) -> None:
    assert np.isfinite(MfccSpec().compute([sound.astype(np.float32)])).all()


def test_a_frame_of_equal_coefficients_becomes_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store.features.mfcc.decibels", lambda power: np.zeros_like(power))
    assert not MfccSpec().compute([vowel(1, 1)]).any()


def test_a_clip_shorter_than_a_frame_is_filled_up_and_finite() -> None:
    spec = MfccSpec()
    (cycle,) = cut_cycles(vowel(1, 1, 300), [(0.0, 300 / 44100)], spec)
    values = spec.compute([cycle])
    assert values.shape == (1, 126, 13) and np.isfinite(values).all()


def test_a_clip_shorter_than_a_frame_is_refused_where_nothing_fills_it() -> None:
    with pytest.raises(UserError, match="shorter than a window of mfcc, 705 samples"):
        MfccSpec(pad="stretch").compute([vowel(1, 1, 300)])


def test_only_the_first_second_is_heard() -> None:
    long = vowel(1, 1, 3 * 44100)
    spec = MfccSpec()
    (cycle,) = cut_cycles(long, [(0.0, 3.0)], spec)
    np.testing.assert_array_equal(cycle, long[:44100])


@pytest.mark.parametrize("wrong", ({"clip_blank": True}, {"shift_ms": 0.001}, {"seconds": 0.01}))
def test_settings_that_leave_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="feature"):
        resolve_feature({"kind": "mfcc", **wrong})
