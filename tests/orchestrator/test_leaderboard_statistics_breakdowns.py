"""Slices of the test side against scikit-learn on the slice's rows, and their intervals against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from orchestrator.analysis import bootstrap
from orchestrator.analysis.breakdowns import age_group, breakdowns

CLASSES = ("normal", "crackle", "wheeze", "both")


def some_cycles(seeds: int = 1):
    generator = np.random.default_rng(3)
    labels = generator.choice(4, 600, p=[0.5, 0.25, 0.15, 0.1])
    predicted = np.where(generator.random((seeds, 600)) < 0.6, labels, generator.integers(0, 4, (seeds, 600)))
    patients = np.array([f"{i}" for i in generator.integers(100, 118, 600)], dtype=object)
    devices = np.array(["A", "B", "C"], dtype=object)[patients.astype(int) % 3]
    return predicted, labels, patients, devices


@pytest.mark.slow
def test_a_slices_score_is_scikit_learns_on_its_rows():
    predicted, labels, patients, devices = some_cycles(seeds=3)
    found = breakdowns(predicted, labels, patients, CLASSES, {"device": devices}, resamples=50)
    assert list(found) == ["class", "device", "patient"]
    for key, values in (("device", devices), ("patient", patients)):
        assert [item.name for item in found[key]] == sorted(set(values))
        for item in found[key]:
            rows = values == item.name
            sp = np.mean([100 * recall_score(labels[rows] == 0, (one[rows] == 0)) for one in predicted])
            abnormal = rows & (labels > 0)
            se = np.mean([
                100 * recall_score(labels[abnormal], one[abnormal], labels=[1, 2, 3], average="micro")
                for one in predicted
            ])  # fmt: skip
            assert (item.specificity, item.sensitivity, item.score) == pytest.approx((sp, se, (sp + se) / 2))
            assert (item.cycles, item.patients) == (rows.sum(), len(set(patients[rows])))
            assert item.recall is None
            assert (item.low is None) is (key == "patient")


def test_recall_of_a_class_is_scikit_learns():
    predicted, labels, patients, _ = some_cycles(seeds=2)
    found = breakdowns(predicted, labels, patients, CLASSES, {})["class"]
    expected = np.mean([100 * recall_score(labels, one, average=None) for one in predicted], axis=0)
    assert [item.recall for item in found] == pytest.approx(expected)
    assert [item.cycles for item in found] == np.bincount(labels).tolist()
    assert all(item.low < item.recall < item.high and item.score is None for item in found)


@pytest.mark.slow
def test_intervals_equal_a_plain_loop_over_patients():
    predicted, labels, patients, devices = some_cycles()
    found = breakdowns(predicted, labels, patients, CLASSES, {"device": devices}, resamples=200)
    names = sorted(set(patients))
    scores, recalls = [], []
    for draw in bootstrap.draws(len(names), 200):
        rows = [row for name, times in zip(names, draw, strict=True) for _ in range(int(times))
                for row in np.flatnonzero(patients == name)]  # fmt: skip
        truth, said = labels[rows], predicted[0][rows]
        recalls.append(100 * recall_score(truth == 2, (said == 2) & (truth == 2)))
        truth, said = truth[devices[rows] == "B"], said[devices[rows] == "B"]
        if (truth == 0).any() and (truth > 0).any():
            abnormal = truth > 0
            exact = recall_score(truth[abnormal], said[abnormal], labels=[1, 2, 3], average="micro")
            scores.append(50 * (recall_score(truth == 0, said == 0) + exact))
    device = next(item for item in found["device"] if item.name == "B")
    wheeze = found["class"][2]
    assert (device.low, device.high) == pytest.approx(np.percentile(scores, [2.5, 97.5]), abs=1e-3)
    assert (wheeze.low, wheeze.high) == pytest.approx(np.percentile(recalls, [2.5, 97.5]), abs=1e-3)


def test_what_has_no_cycle_has_no_rate():
    labels, patients = np.array([0, 0, 1, 1]), np.array(["a", "b", "b", "b"], dtype=object)
    values = np.array(["x", "unknown", "x", "x"], dtype=object)
    found = breakdowns(labels[None], labels, patients, CLASSES, {"sex": values})
    assert [item.name for item in found["sex"]] == ["x", "unknown"]  # the unknown comes last
    known, unknown = found["sex"]
    assert (known.score, unknown.specificity, unknown.sensitivity, unknown.score) == (100.0, 100.0, None, None)
    assert (unknown.low, unknown.patients) == (None, 1)
    assert [item.recall for item in found["class"]] == [100.0, 100.0, None, None]


@pytest.mark.parametrize(
    ("age", "group"),
    [(0.25, "under 18"), (17.9, "under 18"), (18, "18 to 64"), (64.5, "18 to 64"), (65, "65 and over"),
     (None, "unknown"), (float("nan"), "unknown")],
)  # fmt: skip
def test_age_groups(age: float | None, group: str):
    assert age_group(age) == group
