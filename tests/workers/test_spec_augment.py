"""SpecAugment on batches (SEEDS rows A1 to A3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.augment import build_augment
from workers.augment.spec_augment import POLICIES, Policy, SpecAugment
from workers.config import AugmentConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs(mask: np.ndarray) -> int:
    """How many stretches of True there are."""
    return int(np.sum(np.diff(np.concatenate([[0], mask.astype(int)])) == 1))


@pytest.mark.parametrize(
    ("name", "frequency", "time"), [("icbhi_sup", (20, 2), (50, 2)), ("icbhi_ast_sup", (48, 2), (160, 2))]
)
def test_A1_policies_at_the_published_size(name: str, frequency: tuple[int, int], time: tuple[int, int]) -> None:
    policy = POLICIES[name].scaled(798, 128)
    assert (policy.frequency_width, policy.frequency_masks, policy.time_width, policy.time_masks) == (*frequency, *time)


def test_A1_masks_are_as_wide_and_as_many_as_the_policy_says() -> None:
    policy = POLICIES["icbhi_ast_sup"]
    masks = SpecAugment(policy).draw(2000, 798, 128, generator()).numpy() > 0
    over_bins, over_frames = masks[:, :128], masks[:, 128:]
    assert over_bins.sum(axis=1).max() < 2 * 48 and over_frames.sum(axis=1).max() < 2 * 160
    assert {runs(row) for row in over_bins} <= {0, 1, 2} and {runs(row) for row in over_frames} <= {0, 1, 2}
    single = SpecAugment(Policy(48, 1, 160, 1)).draw(20000, 798, 128, generator()).numpy() > 0
    widths = single[:, :128].sum(axis=1)  # floor(U(0, 48)): uniform on 0..47
    assert set(widths) == set(range(48)) and widths.mean() == pytest.approx(23.5, abs=0.4)
    assert single[:, 0].mean() < single[:, 64].mean(), "a mask starts anywhere where it fits"


def test_A1_starts_are_uniform_up_to_the_last_place() -> None:
    masks = SpecAugment(Policy(4, 1, 4, 1)).draw(40000, 5, 6, generator()).numpy() > 0
    over_bins = masks[:, :6]
    starts = over_bins[over_bins.sum(axis=1) == 3].argmax(axis=1)  # 3 of 6 bins: starts 0 to 3
    assert np.bincount(starts, minlength=4) / len(starts) == pytest.approx([0.25] * 4, abs=0.02)


def test_A1_widths_keep_their_share_of_a_smaller_feature() -> None:
    policy = POLICIES["icbhi_ast_sup"].scaled(399, 32)
    assert (policy.frequency_width, policy.time_width) == (12.0, 80.0)
    masks = SpecAugment(policy).draw(5000, 399, 32, generator()) > 0
    assert masks[:, :32].sum(dim=1).max() <= 2 * 11 and masks[:, 32:].sum(dim=1).max() <= 2 * 79


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 5), frames=st.integers(8, 90), bins=st.integers(4, 60), seed=st.integers(0, 99),
    fill=st.sampled_from(["mean", "zero"]),
)  # fmt: skip
def test_A1_what_is_masked_is_filled_and_the_rest_untouched(
    batch: int, frames: int, bins: int, seed: int, fill: str
) -> None:
    augment = SpecAugment(POLICIES["icbhi_ast_sup"].scaled(frames, bins), fill=fill)  # type: ignore[arg-type]
    x = torch.randn(batch, 1, frames, bins, generator=generator(seed), dtype=torch.float64)
    before = x.clone()
    out = augment(x, generator(seed))
    masks = augment.draw(batch, frames, bins, generator(seed)).bool()
    assert torch.equal(x, before), "A3: the features given are never written to"
    for i in range(batch):  # one sample at a time, as the original does
        expected = before[i, 0].clone()
        expected[:, masks[i, :bins]] = expected.mean() if fill == "mean" else 0.0
        expected[masks[i, bins:]] = expected.mean() if fill == "mean" else 0.0
        assert torch.allclose(out[i, 0], expected, atol=1e-9)


def test_A2_the_gate_is_uniform() -> None:
    always, rarely = (
        (SpecAugment(Policy(48, 2, 160, 2, p)).draw(10000, 798, 128, generator()).sum(dim=1) > 0).float().mean()
        for p in (1.0, 0.2)
    )
    assert float(always) > 0.99 and float(rarely) == pytest.approx(0.2, abs=0.015)


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
