"""CycleGuardian's augmentation on the device: two policies with masks of each map's own, and rolling (rows A1, A9)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from feature_store.features import HybridSpec
from workers.augment import build_augment
from workers.augment.roll import Roll
from workers.augment.spec_augment import POLICIES, SpecAugment
from workers.config.training import AugmentConfig

# docs/specification.md, 3.2: F, mF, T, mT
PUBLISHED = {"group_sr22k": (10, 2, 5, 10), "icbhi_group_cl": (22, 2, 20, 2)}
SHAPE = (3, 688, 84)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(samples: int = 64) -> Tensor:
    return torch.randn(samples, *SHAPE, generator=generator(9))


@pytest.mark.spec("A1")
@pytest.mark.parametrize("name", PUBLISHED)
def test_group_policies_at_the_published_size(name: str) -> None:
    policy = POLICIES[name].scaled(688, 84)
    has = (policy.frequency_width, policy.frequency_masks, policy.time_width, policy.time_masks)
    assert has == PUBLISHED[name]
    assert policy.probability == 0.5 and policy.time_warp == 0
    half = POLICIES[name].scaled(344, 42)
    assert (half.frequency_width, half.time_width) == (has[0] / 2, has[2] / 2)


@pytest.mark.slow
@pytest.mark.spec("A1")
@pytest.mark.parametrize("name", PUBLISHED)
def test_maps_of_half_of_the_samples_are_masked_each_by_itself(name: str) -> None:
    x = batch(256)
    masked = build_augment(AugmentConfig(policy=name), SHAPE)(x, generator())
    changed = (masked != x).numpy()
    touched = changed.any(axis=(2, 3))  # [samples, maps]
    whole = touched.any(axis=1)
    assert 0.4 < whole.mean() < 0.6
    assert touched[whole].mean() > 0.95, "a sample's maps are touched together"
    bins = changed.all(axis=2)  # [samples, maps, bins]
    assert not (bins[whole, 0] == bins[whole, 1]).all(), "by other masks"
    width, count, length, times = PUBLISHED[name]
    assert bins.sum(axis=2).max() <= count * (width - 1)
    assert changed.all(axis=3).sum(axis=2).max() <= times * (length - 1)
    assert torch.equal(x, batch(256)), "the batch is not written to"


@pytest.mark.spec("A1")
def test_masks_are_filled_with_the_mean_of_their_own_map() -> None:
    x = batch(16) + torch.tensor([0.0, 100.0, -100.0])[None, :, None, None]
    masked = SpecAugment(POLICIES["group_sr22k"])(x, generator(1))
    for index, level in enumerate((0.0, 100.0, -100.0)):
        new = masked[:, index][masked[:, index] != x[:, index]]
        assert len(new) and float((new - level).abs().max()) < 0.1


@pytest.mark.spec("A1")
def test_one_map_is_masked_as_before() -> None:
    """Maps with masks of their own draw, for one map, what they always drew."""
    x = batch(8)[:, :1]
    own = POLICIES["group_sr22k"]
    shared = dataclasses.replace(own, per_map=False)
    assert torch.equal(SpecAugment(own)(x, generator(2)), SpecAugment(shared)(x, generator(2)))


# --- rolling ---


@pytest.mark.slow
@pytest.mark.spec("A9")
def test_rolling_keeps_every_frame_and_moves_all_maps_alike() -> None:
    x = batch(64)
    rolled = Roll(1.0)(x, generator())
    assert torch.equal(x, batch(64))
    shifts = set()
    for before, after in zip(x, rolled, strict=True):
        shift = int((after[0, :, 0] == before[0, 0, 0]).nonzero()[0])
        shifts.add(shift)
        assert torch.equal(after, before.roll(shift, dims=1))
    assert len(shifts) > 50 and max(shifts) > 500, "uniformly"


@pytest.mark.spec("A9")
def test_only_the_wanted_share_is_rolled() -> None:
    x = torch.arange(10.0).view(1, 1, 10, 1).expand(4000, 1, 10, 1)
    rolled = Roll(0.5)(x, generator())
    moved = (rolled != x).flatten(1).any(dim=1).float().mean()
    assert abs(float(moved) - 0.5 * 0.9) < 0.03, "a tenth of the shifts is by nothing"
    assert torch.equal(Roll(0.0)(x, generator()), x)


@pytest.mark.spec("A9")
def test_rolling_frames_is_rolling_the_sound_before_its_transform() -> None:
    """By a whole number of hops, but for frames whose windows cross the seam or an end of the waveform."""
    spec = HybridSpec(seconds=2.56, low_hz=200.0, bins=24, sample_rate=20000, hop=256)
    sound = np.random.default_rng(0).standard_normal(spec.samples).astype(np.float32)
    hops = 60
    levels, of_rolled = spec.decibels(sound), spec.decibels(np.roll(sound, hops * spec.hop))
    frames = spec.shape[1] - 1  # the last frame is the first one again
    rolled = levels[:, :frames].roll(hops, dims=1)
    margin = spec.constant_q.margin // spec.hop + 2
    whole = [n for n in range(margin, frames - margin) if abs(n - hops) > margin]
    assert len(whole) > 120
    assert float((rolled[:, whole] - of_rolled[:, whole]).abs().max()) < 0.05


def test_a_config_without_rolling_draws_nothing_for_it() -> None:
    x = batch(4)
    drawn = generator(3)
    build_augment(AugmentConfig(policy="none"), SHAPE)(x, drawn)
    assert torch.equal(torch.rand(1, generator=drawn), torch.rand(1, generator=generator(3)))
    plain = build_augment(AugmentConfig(policy="group_sr22k"), SHAPE)(x, generator(4))
    assert torch.equal(plain, SpecAugment(POLICIES["group_sr22k"])(x, generator(4)))


def test_rolling_comes_before_the_masks() -> None:
    x, draws = batch(4), generator(5)
    both = build_augment(AugmentConfig(policy="group_sr22k", roll=1.0), SHAPE)(x, generator(5))
    assert torch.equal(both, SpecAugment(POLICIES["group_sr22k"])(Roll(1.0)(x, draws), draws))
