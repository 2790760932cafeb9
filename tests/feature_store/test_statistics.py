"""F5: mean and standard deviation of the training side, against numpy over all of it at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store import feature_statistics
from feature_store.errors import UserError
from feature_store.feature_statistics import moments, training_statistics
from feature_store.features import MelDbSpec
from feature_store.store import FeatureStore
from tests.support.corpora import SPEC, rebuild, rows_of


def of_side(store: FeatureStore, feature_id: str, side: str, cache: Path, split: str = "official") -> np.ndarray:
    rows = rows_of(store, feature_id, cache)
    return np.stack([rows[cycle] for cycle in store.split("icbhi", split, "lungsound4").side(0, side)])


@pytest.mark.spec("F5")
@pytest.mark.parametrize("split", ["official", "official-inner3"])
def test_statistics_equal_numpy_over_the_training_side(built: FeatureStore, tmp_path: Path, split: str) -> None:
    found = training_statistics(built, "icbhi", SPEC, split, 0, cache=tmp_path)
    train = of_side(built, SPEC.feature_id, "train", tmp_path, split).astype(np.float64)
    everything = np.stack(list(rows_of(built, SPEC.feature_id, tmp_path).values()))
    assert (found.cycles, found.values) == (len(train), train.size)
    assert (found.mean, found.std) == pytest.approx((train.mean(), train.std()), rel=1e-9)
    assert found.mean != pytest.approx(everything.mean(dtype=np.float64), rel=1e-6)


@pytest.mark.slow
@pytest.mark.spec("F5")
def test_the_spec_s_own_statistics_normalise_to_mean_0_and_std_a_half(root: Path, tmp_path: Path) -> None:
    """AST's convention: what is found is put into the spec, and the feature is built again."""
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    rebuild(root, store)
    found = training_statistics(store, "icbhi", SPEC, cache=tmp_path)
    own = SPEC.model_copy(update={"mean": found.raw_mean, "std": found.raw_std})
    rebuild(root, store, own)
    train = of_side(store, own.feature_id, "train", tmp_path).astype(np.float64)
    assert (train.mean(), train.std()) == pytest.approx((0, 0.5), abs=1e-5)


@pytest.mark.slow
@pytest.mark.spec("F5")
def test_copies_count_and_other_kinds_have_no_raw_statistics(root: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    spec = MelDbSpec(seconds=1.0, n_mels=16, copies=1)
    rebuild(root, store, spec)
    found = training_statistics(store, "icbhi", spec.feature_id, cache=tmp_path)
    train = of_side(store, spec.feature_id, "train", tmp_path).astype(np.float64)
    assert train.shape[1:] == (2, *spec.shape)
    assert (found.mean, found.std) == pytest.approx((train.mean(), train.std()), rel=1e-9)
    assert (found.values, found.raw_mean, found.raw_std) == (train.size, None, None)


@pytest.mark.spec("F5")
@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_lose_no_precision_far_from_zero(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """A sum of squares in one go would lose all digits of the deviation here."""
    monkeypatch.setattr(feature_statistics, "BLOCK", block)
    values = 1e8 + np.random.default_rng(0).normal(size=(50, 4, 3))
    count, mean, std = moments(values, np.arange(0, 50, 2))
    assert count == 25 * 12
    assert (mean, std) == pytest.approx((values[::2].mean(), values[::2].std()), rel=1e-9)


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    ("split", "fold", "reason"), [("official", 3, r"no fold 3.*known: 0"), ("offical", 0, "no split 'offical'")]
)
def test_statistics_of_what_is_not_there_are_refused(
    built: FeatureStore, tmp_path: Path, split: str, fold: int, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        training_statistics(built, "icbhi", SPEC, split, fold, cache=tmp_path)
