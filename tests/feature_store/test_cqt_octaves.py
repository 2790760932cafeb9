"""The constant-Q map by octaves against nnAudio (docs/specification.md, 3.2), and settings that it cannot follow."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feature_store.errors import UserError
from feature_store.features import HybridSpec, resolve_feature
from tests.feature_store.make_cqt_golden import BINS, FRAMES, GOLDEN, sound

pytestmark = pytest.mark.slow

SEED = HybridSpec(cqt="seed_compat")


@pytest.mark.spec("F6")
def test_the_map_is_nnaudios() -> None:
    found = SEED.decibels(sound())[0].numpy()
    assert found.shape == (688, 84)
    np.testing.assert_allclose(found[np.ix_(FRAMES, BINS)], json.loads(GOLDEN.read_text()), atol=2e-3)


def test_only_the_first_map_and_the_id_change() -> None:
    seed, own = SEED.compute([sound()])[0], HybridSpec().compute([sound()])[0]
    np.testing.assert_array_equal(seed[1:], own[1:])
    assert np.abs(seed[0] - own[0]).max() > 0.1
    assert SEED.feature_id != HybridSpec().feature_id


def test_silence_is_all_zeros() -> None:
    assert not SEED.compute([np.zeros(SEED.samples, np.float32)]).any()


@pytest.mark.parametrize(
    ("changes", "reason"), [({"hop": 200}, "halves the hop 6 times"), ({"bins": 36}, "raise bins or low_hz")]
)
def test_what_it_cannot_follow_is_refused(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        resolve_feature({"kind": "hybrid", "cqt": "seed_compat", **changes})
