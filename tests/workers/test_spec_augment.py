"""SpecAugment on batches (docs/specification.md, A1 to A3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.augment import build_augment
from workers.augment.spec_augment import POLICIES, Policy, SpecAugment, warp_time
from workers.config.training import AugmentConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs(mask: np.ndarray) -> int:
    """How many stretches of True there are."""
    return int(np.sum(np.diff(np.concatenate([[0], mask.astype(int)])) == 1))


PUBLISHED = {  # docs/specification.md, 2.3: W, F, mF, T, p, mT
    "LB": (80, 27, 1, 100, 1.0, 1),
    "LD": (80, 27, 2, 100, 1.0, 2),
    "SM": (40, 15, 2, 70, 0.2, 2),
    "SS": (40, 27, 2, 70, 0.2, 2),
    "icbhi_sup": (0, 20, 2, 50, 1.0, 2),
    "icbhi_ast_sup": (0, 48, 2, 160, 1.0, 2),
}


@pytest.mark.spec("A1")
@pytest.mark.parametrize("name", PUBLISHED)
def test_policies_at_the_published_size(name: str) -> None:
    p = POLICIES[name].scaled(798, 128)
    has = (p.time_warp, p.frequency_width, p.frequency_masks, p.time_width, p.probability, p.time_masks)
    assert has == PUBLISHED[name]
    assert set(POLICIES) == set(PUBLISHED) | {"group_sr22k", "icbhi_group_cl"}
    AugmentConfig(policy=name)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.spec("A1")
def test_masks_are_as_wide_and_as_many_as_the_policy_says() -> None:
    policy = POLICIES["icbhi_ast_sup"]
    masks = SpecAugment(policy).draw(2000, 798, 128, generator()).masks.numpy() > 0
    over_bins, over_frames = masks[:, :128], masks[:, 128:]
    assert over_bins.sum(axis=1).max() < 2 * 48 and over_frames.sum(axis=1).max() < 2 * 160
    assert {runs(row) for row in over_bins} <= {0, 1, 2} and {runs(row) for row in over_frames} <= {0, 1, 2}
    single = SpecAugment(Policy(48, 1, 160, 1)).draw(20000, 798, 128, generator()).masks.numpy() > 0
    widths = single[:, :128].sum(axis=1)  # floor(U(0, 48)): uniform on 0..47
    assert set(widths) == set(range(48)) and widths.mean() == pytest.approx(23.5, abs=0.4)
    assert single[:, 0].mean() < single[:, 64].mean(), "a mask starts anywhere where it fits"


@pytest.mark.spec("A1")
def test_starts_are_uniform_up_to_the_last_place() -> None:
    masks = SpecAugment(Policy(4, 1, 4, 1)).draw(40000, 5, 6, generator()).masks.numpy() > 0
    over_bins = masks[:, :6]
    starts = over_bins[over_bins.sum(axis=1) == 3].argmax(axis=1)  # 3 of 6 bins: starts 0 to 3
    assert np.bincount(starts, minlength=4) / len(starts) == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.spec("A1")
def test_widths_keep_their_share_of_a_smaller_feature() -> None:
    policy = POLICIES["icbhi_ast_sup"].scaled(399, 32)
    assert (policy.frequency_width, policy.time_width) == (12.0, 80.0)
    masks = SpecAugment(policy).draw(5000, 399, 32, generator()).masks > 0
    assert masks[:, :32].sum(dim=1).max() <= 2 * 11 and masks[:, 32:].sum(dim=1).max() <= 2 * 79


@pytest.mark.spec("A1")
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 5), frames=st.integers(8, 90), bins=st.integers(4, 60), seed=st.integers(0, 99),
    fill=st.sampled_from(["mean", "zero"]),
)  # fmt: skip
def test_what_is_masked_is_filled_and_the_rest_untouched(
    batch: int, frames: int, bins: int, seed: int, fill: str
) -> None:
    augment = SpecAugment(POLICIES["icbhi_ast_sup"].scaled(frames, bins), fill=fill)  # type: ignore[arg-type]
    x = torch.randn(batch, 1, frames, bins, generator=generator(seed), dtype=torch.float64)
    before = x.clone()
    out = augment(x, generator(seed))
    masks = augment.draw(batch, frames, bins, generator(seed)).masks.bool()
    assert torch.equal(x, before), "A3: the features given are never written to"
    for i in range(batch):  # one sample at a time, as the original does
        expected = before[i, 0].clone()
        expected[:, masks[i, :bins]] = expected.mean() if fill == "mean" else 0.0
        expected[masks[i, bins:]] = expected.mean() if fill == "mean" else 0.0
        assert torch.allclose(out[i, 0], expected, atol=1e-9)


@pytest.mark.spec("A2")
@pytest.mark.parametrize(
    ("gate", "p", "share"),
    [("uniform", 1.0, 1.0), ("uniform", 0.2, 0.2), ("seed_compat", 1.0, 0.841), ("seed_compat", 0.2, 0.579)],
)
def test_the_gate_opens_as_often_as_its_law_says(gate: str, p: float, share: float) -> None:
    """The release compares the policy's p with a normal draw: Phi(1) = 0.841 and Phi(0.2) = 0.579."""
    augment = SpecAugment(Policy(48, 2, 160, 2, p), gate=gate)  # type: ignore[arg-type]
    masks = augment.draw(10000, 798, 128, generator()).masks
    assert float((masks.sum(dim=1) > 0).float().mean()) == pytest.approx(share, abs=0.015)


@pytest.mark.spec("A4")
def test_a_warp_moves_one_point_and_keeps_the_ends_and_the_order() -> None:
    ramp = torch.arange(100, dtype=torch.float64).view(1, 1, 100, 1).expand(3, 1, 100, 4).contiguous()
    point, moved = torch.tensor([40.0, 40.0, 40.0], dtype=torch.float64), torch.tensor([60.0, 20.0, 40.0]).double()
    out = warp_time(ramp, point, moved)
    for sample, place in zip(out, moved, strict=True):
        times = sample[0, :, 0]
        assert float(times[int(place)]) == pytest.approx(40.0), "what stood at 40 now stands at the new place"
        assert (float(times[0]), float(times[-1])) == (0.0, 99.0)
        assert bool((times.diff() > 0).all()), "the order of frames is kept"
        expected = np.interp(np.arange(100), [0, float(place), 99], [0, 40, 99])  # an independent formula
        assert np.allclose(times.numpy(), expected)
        assert torch.equal(sample[0, :, 0], sample[0, :, 3]), "all bins move alike"
    assert torch.equal(out[2], ramp[2]), "no displacement is the identity"


@pytest.mark.spec("A4")
@settings(max_examples=30, deadline=None)
@given(frames=st.integers(4, 120), seed=st.integers(0, 99), name=st.sampled_from(["LB", "LD", "SM", "SS"]))
def test_warps_stay_inside_whatever_the_size(frames: int, seed: int, name: str) -> None:
    policy = POLICIES[name].scaled(frames, 16)
    draws = SpecAugment(policy).draw(64, frames, 16, generator(seed))
    assert draws.warp is not None
    point, moved = draws.warp
    assert bool(((point > 0) & (point < frames - 1) & (moved > 0) & (moved < frames - 1)).all())
    assert float((moved - point).abs().max()) <= policy.time_warp
    share = float((moved != point).float().mean())
    assert share > 0.9 if name in ("LB", "LD") else 0.02 < share < 0.5, "the gate covers the warp too"
    x = torch.rand(64, 1, frames, 16, generator=generator(seed))
    before = x.clone()
    assert bool(SpecAugment(policy)(x, generator(seed)).isfinite().all()) and torch.equal(x, before)


@pytest.mark.spec("A4")
def test_a_policy_without_a_warp_draws_none() -> None:
    assert SpecAugment(POLICIES["icbhi_ast_sup"]).draw(2, 798, 128, generator()).warp is None


def test_samples_of_a_batch_get_their_own_masks() -> None:
    out = build_augment(AugmentConfig(fill="zero"), (798, 128))(torch.ones(8, 1, 798, 128), generator())
    assert len({tuple(row.flatten().tolist()) for row in out[:, 0, ::7, ::3]}) == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types_are_kept(dtype: torch.dtype) -> None:
    x = torch.randn(2, 1, 40, 32).to(dtype)
    assert build_augment(AugmentConfig(), (40, 32))(x, generator()).dtype == dtype


def test_no_policy_changes_and_draws_nothing() -> None:
    x, rng = torch.randn(2, 1, 40, 32), generator()
    state = rng.get_state()
    assert torch.equal(build_augment(AugmentConfig(policy="none"), (40, 32))(x, rng), x)
    assert torch.equal(rng.get_state(), state)
