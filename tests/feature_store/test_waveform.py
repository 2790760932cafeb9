"""A5, the five waveform operators: what each does to a tone, to noise and to the rest. A14, white noise in copies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.audio import with_copies
from feature_store.errors import UserError
from feature_store.features import resolve_feature
from feature_store.waveform import OPERATORS, augment, generator_of, level, vtlp_curve, white_noise
from tests.support.corpora import SPEC

RATE, LENGTH = 16000, 64000
FIRST, LAST = LENGTH // 5, 4 * LENGTH // 5
INSIDE = slice(FIRST + 1600, LAST - 1600)  # beyond the blends and a window's reach


class Fixed:
    """Dice that fall on a share of their range; noise is a real generator's."""

    def __init__(self, share: float) -> None:
        self.share = share

    def uniform(self, low: float, high: float) -> float:
        return low + self.share * (high - low)

    def standard_normal(self, count: int) -> np.ndarray:
        return np.random.default_rng(0).standard_normal(count)


def tone(hertz: float, length: int = LENGTH) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)).astype(np.float32)


def hiss(length: int = LENGTH, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=length)).astype(np.float32)


def peak_of(waveform: np.ndarray) -> float:
    """Frequency of the highest peak, Hz."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), n=1 << 18))
    return float(np.argmax(spectrum) * RATE / (1 << 18))


def share_near(waveform: np.ndarray, hertz: float, width: float = 20.0) -> float:
    """Share of the power within some Hz of a frequency."""
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(waveform), 1 / RATE) - hertz) < width
    return float(power[near].sum() / power.sum())


@pytest.mark.spec("A5")
@pytest.mark.parametrize("name", ["noise", "loudness", "pitch", "speed"])
def test_outside_the_zone_nothing_changes(name: str) -> None:
    waveform = hiss()
    changed = OPERATORS[name](waveform, RATE, np.random.default_rng(3))
    np.testing.assert_array_equal(changed[:FIRST], waveform[:FIRST])
    np.testing.assert_array_equal(changed[-(LENGTH - LAST) :], waveform[LAST:])
    assert not np.array_equal(changed[FIRST : FIRST + 4000], waveform[FIRST : FIRST + 4000])


@pytest.mark.spec("A5")
@pytest.mark.parametrize(("share", "decibels"), [(0.0, 10), (0.5, 20), (1.0, 30)])
@pytest.mark.parametrize("loud", [1.0, 0.001])
def test_noise_lies_below_the_signal_by_10_to_30_db(share: float, decibels: float, loud: float) -> None:
    waveform = loud * tone(400)
    added = (OPERATORS["noise"](waveform, RATE, Fixed(share)) - waveform)[INSIDE]  # type: ignore[arg-type]
    assert 20 * np.log10(level(waveform[INSIDE]) / level(added)) == pytest.approx(decibels, abs=0.2)
    power = np.abs(np.fft.rfft(added)) ** 2
    bands = [band.mean() for band in np.array_split(power, 8)]
    assert max(bands) / min(bands) < 1.15  # white


@pytest.mark.spec("A5")
@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.5), (1 / 3, 1.0), (0.6, 1.4), (1.0, 2.0)])
def test_speed_changes_the_length_and_keeps_the_pitch(share: float, factor: float) -> None:
    changed = OPERATORS["speed"](tone(437), RATE, Fixed(share))  # type: ignore[arg-type]
    assert len(changed) == LENGTH - (LAST - FIRST) + round((LAST - FIRST) / factor)
    inside = changed[FIRST + 1600 : -(LENGTH - LAST) - 1600]
    assert peak_of(inside) == pytest.approx(437, abs=0.5)
    assert level(inside) == pytest.approx(level(tone(437)), rel=0.15)


@pytest.mark.spec("A5")
def test_speed_moves_what_is_in_the_zone() -> None:
    """A burst at the middle of the zone stands at the middle of the shorter zone."""
    burst = np.where(np.abs(np.arange(LENGTH) - LENGTH / 2) < 800, hiss(), 0).astype(np.float32)
    changed = OPERATORS["speed"](burst, RATE, Fixed(1.0))  # type: ignore[arg-type]
    centre = np.sum(np.arange(len(changed)) * np.square(changed)) / np.sum(np.square(changed))
    assert centre == pytest.approx(FIRST + (LAST - FIRST) / 4, abs=300)


@pytest.mark.spec("A5")
@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.5), (1 / 3, 1.0), (1.0, 2.0)])
def test_loudness_scales_the_zone(share: float, factor: float) -> None:
    waveform = hiss()
    changed = OPERATORS["loudness"](waveform, RATE, Fixed(share))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        changed[FIRST + 160 : LAST - 160], factor * waveform[FIRST + 160 : LAST - 160], rtol=1e-6
    )
    assert len(changed) == LENGTH


@pytest.mark.spec("A5")
@pytest.mark.parametrize("hertz", [150.0, 437.0, 1234.0, 3000.0])
@pytest.mark.parametrize(("share", "semitones"), [(0.0, -1), (0.5, 1), (1.0, 3)])
def test_pitch_moves_a_tone_by_semitones(hertz: float, share: float, semitones: float) -> None:
    changed = OPERATORS["pitch"](tone(hertz), RATE, Fixed(share))  # type: ignore[arg-type]
    there = hertz * 2 ** (semitones / 12)
    assert len(changed) == LENGTH
    assert peak_of(changed[INSIDE]) == pytest.approx(there, abs=0.002 * there)
    assert share_near(changed[INSIDE], there) > 0.99  # still one tone
    assert level(changed[INSIDE]) == pytest.approx(level(tone(hertz)), rel=0.25)


@pytest.mark.spec("A5")
@pytest.mark.parametrize(("share", "alpha"), [(0.0, 0.9), (1.0, 1.1)])
@pytest.mark.parametrize("hertz", [437.0, 1234.0, 3000.0])
def test_vtlp_moves_a_tone_in_a_tenth_of_the_waveform(hertz: float, share: float, alpha: float) -> None:
    """The same dice place the tenth at the beginning and at the end."""
    waveform = tone(hertz)
    changed = OPERATORS["vtlp"](waveform, RATE, Fixed(share))  # type: ignore[arg-type]
    first = int(share * 0.9 * LENGTH)
    segment = slice(first, first + LENGTH // 10)
    outside = np.delete(np.arange(LENGTH), segment)
    np.testing.assert_array_equal(changed[outside], waveform[outside])
    assert peak_of(changed[segment][200:-200]) == pytest.approx(alpha * hertz, abs=0.005 * hertz)
    assert share_near(changed[segment][500:-500], alpha * hertz, 60) > 0.97


@pytest.mark.spec("A5")
@pytest.mark.parametrize("rate", [4000, 16000, 22000])
@pytest.mark.parametrize("alpha", [0.9, 0.97, 1.0, 1.1])
def test_vtlp_s_curve_rises_from_zero_to_nyquist(rate: int, alpha: float) -> None:
    hertz = np.linspace(0, rate / 2, 4001)
    there = vtlp_curve(hertz, alpha, rate)
    top = min(4800, 0.45 * rate) * min(alpha, 1)
    assert there[[0, -1]] == pytest.approx([0, rate / 2])
    assert np.diff(there).min() > 0
    low = hertz < top / alpha
    np.testing.assert_allclose(there[low], alpha * hertz[low], rtol=1e-12)
    np.testing.assert_allclose(np.diff(there[~low], 2), 0, atol=1e-9)  # straight beyond the bend
    assert np.abs(np.diff(there)).max() < 3 * hertz[1]  # without a step


@pytest.mark.slow
@pytest.mark.spec("A5")
@pytest.mark.parametrize("name", OPERATORS)
def test_no_click_where_old_and_new_meet(name: str) -> None:
    """A slow tone's neighbouring samples differ by 0.02 at most; a step would be many times that."""
    for seed in range(5):
        changed = OPERATORS[name](tone(100), RATE, np.random.default_rng(seed))
        smooth = np.convolve(changed, np.ones(8) / 8, "valid") if name == "noise" else changed
        assert np.abs(np.diff(smooth)).max() < 0.12


@pytest.mark.spec("A5")
@pytest.mark.parametrize("name", OPERATORS)
def test_the_same_seed_gives_the_same(name: str) -> None:
    waveform, operator = hiss(), OPERATORS[name]
    one, same, other = (operator(waveform, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(waveform, hiss())  # not written to


@pytest.mark.spec("A5")
@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(OPERATORS)), length=st.integers(1, 4000), silent=st.booleans(),
    rate=st.sampled_from([1000, 4000, 16000, 44100]), seed=st.integers(0, 99),
)  # fmt: skip
def test_silence_and_short_waveforms_stay_finite(name: str, length: int, silent: bool, rate: int, seed: int) -> None:
    waveform = np.zeros(length, np.float32) if silent else hiss(length)
    changed = OPERATORS[name](waveform, rate, np.random.default_rng(seed))
    assert changed.dtype == np.float32
    assert 0 < len(changed) <= 2 * length
    assert np.isfinite(changed).all()
    assert not (silent and changed.any())
    if name != "speed":
        assert len(changed) == length


@pytest.mark.spec("A5")
def test_each_operator_is_drawn_a_fifth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(OPERATORS):
        monkeypatch.setitem(OPERATORS, name, lambda waveform, rate, rng, place=place: np.array([place]))
    rng, draws = np.random.default_rng(0), 5000
    counts = np.bincount([augment(hiss(1), RATE, rng)[0] for _ in range(draws)], minlength=5)
    assert np.abs(counts - draws / 5).max() < 3.3 * np.sqrt(draws * 0.2 * 0.8)


def test_dice_depend_on_the_cycle_and_the_purpose_alone() -> None:
    cycles = [hiss(8000), 2 * hiss(8000), hiss(8001)]
    draws = [generator_of(cycle, purpose).random() for cycle, purpose in itertools.product(cycles, ("pad", "copies"))]
    assert len(set(draws)) == 6
    assert generator_of(hiss(8000), "pad").random() == draws[0]
    alike = [generator_of(hiss(8000, seed), "pad", 8).random() for seed in range(20)]
    assert len(set(alike)) == 20, "cycles of one length and nearly one level"


def test_dice_do_not_hang_on_the_last_bits() -> None:
    """Resampling rounds them differently on other processors."""
    cycle = hiss(8000)
    nearly = np.nextafter(cycle, np.float32(1))
    assert not np.array_equal(cycle, nearly)
    assert generator_of(nearly, "pad").random() == generator_of(cycle, "pad").random()


@pytest.mark.spec("A14")
@pytest.mark.parametrize(("sigma", "decibels"), [(0.001, 50.97), (0.01, 30.97), (0.1, 10.97)])
def test_noise_of_a_sigma_gives_a_tone_its_snr_and_keeps_its_length(sigma: float, decibels: float) -> None:
    """A tone with an amplitude of 0.5 has a level of 0.5 / sqrt(2): 20 log10(0.3536 / sigma) dB above the noise."""
    waveform = tone(400)
    noisy = white_noise(waveform, sigma, np.random.default_rng(1))
    added = noisy - waveform
    assert noisy.shape == waveform.shape and noisy.dtype == np.float32
    assert 20 * np.log10(level(waveform) / level(added)) == pytest.approx(decibels, abs=0.1)
    assert abs(added.mean()) < 4 * sigma / np.sqrt(LENGTH)
    parts = [level(part) for part in np.array_split(added, 8)]  # from its first sample to its last
    bands = [band.mean() for band in np.array_split(np.abs(np.fft.rfft(added)) ** 2, 8)]
    assert max(parts) / min(parts) < 1.05 and max(bands) / min(bands) < 1.15
    assert np.mean(np.abs(added) < sigma) == pytest.approx(0.683, abs=0.01), "Gaussian"


@pytest.mark.spec("A14")
@pytest.mark.parametrize("copy_of", ["previous", "cycle"])
def test_every_copy_is_the_cycle_and_noise_of_its_own(copy_of: str) -> None:
    spec = SPEC.model_copy(update={"copies": 3, "copy_of": copy_of, "copy_by": "noise", "noise_sigma": 0.02})
    cycle = hiss(spec.samples)
    own, *copies = with_copies(cycle, spec)
    added = np.stack([copy - cycle for copy in copies])
    assert own is cycle and all(copy.shape == cycle.shape for copy in copies)
    assert [level(noise) for noise in added] == pytest.approx([0.02] * 3, rel=0.05), "never noise upon noise"
    assert np.abs(np.corrcoef(added)[np.triu_indices(3, 1)]).max() < 0.05
    again = with_copies(cycle, spec)
    assert all(np.array_equal(one, same) for one, same in zip(copies, again[1:], strict=True))


@pytest.mark.slow
@pytest.mark.spec("A14")
@pytest.mark.parametrize(("copies", "share"), [(1, 0.3), (3, 0.3), (1, None), (2, 2 / 3)])
def test_a_share_of_uniform_draws_has_noise(copies: int, share: float | None) -> None:
    """The source adds it with a chance of 0.3; among a cycle and its copies training draws uniformly."""
    spec = SPEC.model_copy(update={"seconds": 0.05, "copies": copies, "copy_by": "noise", "noise_share": share})
    count = 1500
    versions = [with_copies(hiss(spec.samples, seed), spec) for seed in range(count)]
    noisy = [[not np.array_equal(one, own) for one in (own, *rest)] for own, *rest in versions]
    assert not any(own for own, *_ in noisy)
    expected = copies / (1 + copies) if share is None else share
    exact = share is None or share == copies / (1 + copies)
    assert np.mean(noisy) == pytest.approx(expected, abs=1e-12 if exact else 0.03)


@pytest.mark.spec("A14")
def test_more_noise_than_copies_hold_is_refused() -> None:
    noise = {"kind": "fbank", "copies": 1, "copy_by": "noise"}
    assert resolve_feature({**noise, "noise_share": 0.5}).copies == 1
    with pytest.raises(UserError, match=r"1 copies beside a cycle make a noise_share of 0\.5 at most"):
        resolve_feature({**noise, "noise_share": 0.6})
    with pytest.raises(UserError, match="noise_sigma"):
        resolve_feature({**noise, "noise_sigma": 0.0})
