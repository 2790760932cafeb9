"""Reliability and calibration error against a case by hand, a plain loop, and scikit-learn's calibration curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from orchestrator.analysis.calibration import calibration_error, reliability, reliability_sums
from workers.evaluation import softmax


def some_probabilities(seed: int = 0, cycles: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = softmax(generator.normal(0, 1.5, (cycles, 4)))
    return probabilities, generator.integers(0, 4, cycles)


def test_a_case_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.85, 0.15], [0.45, 0.55]])
    found = reliability(reliability_sums(probabilities, np.array([0, 1, 0, 1]), bins=5))
    high, low = found.bins[1], found.bins[0]
    assert (low.low, low.high, low.cycles, low.confidence, low.accuracy) == pytest.approx((0.4, 0.6, 1, 0.55, 1.0))
    # 0.8 is the upper end of its own bin
    assert (high.low, high.high, high.cycles, high.confidence, high.accuracy) == pytest.approx((0.6, 0.8, 1, 0.8, 0.0))
    top = found.bins[2]
    assert (top.low, top.high, top.cycles, top.confidence, top.accuracy) == pytest.approx((0.8, 1.0, 2, 0.875, 1.0))
    assert found.ece == pytest.approx(100 * (0.45 + 0.8 + 2 * 0.125) / 4)
    assert found.mce == pytest.approx(80.0)


def test_expected_error_equals_a_plain_loop():
    probabilities, labels = some_probabilities()
    gap = 0.0
    for k in range(15):
        inside = [
            (max(row), int(np.argmax(row) == label))
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if k / 15 < max(row) <= (k + 1) / 15
        ]
        if inside:
            gap += len(inside) / len(labels) * abs(np.mean([p for p, _ in inside]) - np.mean([h for _, h in inside]))
    sums = reliability_sums(probabilities, labels)
    assert calibration_error(sums) == pytest.approx(100 * gap)
    assert reliability(sums).ece == pytest.approx(100 * gap)


def test_bins_are_scikit_learns():
    probabilities, labels = some_probabilities(1)
    hit = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(hit, probabilities.max(axis=1), n_bins=15)
    found = reliability(reliability_sums(probabilities, labels)).bins
    assert [item.accuracy for item in found] == pytest.approx(accuracy)
    assert [item.confidence for item in found] == pytest.approx(confidence)
    assert all(item.low < item.confidence <= item.high for item in found)


def test_sums_of_seeds_add_up():
    parts = [some_probabilities(seed) for seed in (0, 1)]
    together = reliability_sums(np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]))
    np.testing.assert_allclose(sum(reliability_sums(*part) for part in parts), together)
    assert sum(item.cycles for item in reliability(together).bins) == 6_000


def test_sure_and_right_has_no_error_sure_and_wrong_has_all():
    certain = np.eye(4)[[0, 1, 2, 3]]
    assert calibration_error(reliability_sums(certain, np.arange(4))) == 0.0
    assert calibration_error(reliability_sums(certain, np.array([1, 2, 3, 0]))) == 100.0
