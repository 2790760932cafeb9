"""Metrics against hand cases and scikit-learn (docs/specification.md, E1 to E5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from feature_store.errors import UserError
from workers.evaluation import evaluate, metrics_of, softmax


def logits_of(predicted: list[int], classes: int = 4) -> np.ndarray:
    return np.eye(classes)[predicted] * 5.0


@pytest.mark.spec("E1")
def test_scores_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    found = evaluate(logits_of([0, 0, 0, 1, 1, 2, 0, 3]), labels)
    assert found.icbhi4.model_dump() == {"specificity": 75.0, "sensitivity": 50.0, "score": 62.5}
    assert found.confusion == [[3, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.spec("E2")
def test_two_class_view_of_four_class_predictions() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    found = evaluate(logits_of([0, 0, 0, 1, 1, 2, 0, 3]), labels)
    assert found.icbhi2.specificity == found.icbhi4.specificity
    assert found.icbhi2.sensitivity == 75.0 and found.icbhi2.score == 75.0


@pytest.mark.spec("E3")
def test_two_class_models_use_the_same_formulas() -> None:
    found = evaluate(logits_of([0, 1, 1, 0], 2), np.array([0, 0, 1, 1]))
    assert found.icbhi4 == found.icbhi2 and found.icbhi4.score == 50.0


@pytest.mark.spec("E1")
def test_always_normal_scores_fifty_on_the_official_counts() -> None:
    labels = np.repeat([0, 1, 2, 3], [1579, 649, 385, 143])
    found = evaluate(logits_of([0] * len(labels)), labels)
    assert (found.icbhi4.specificity, found.icbhi4.sensitivity, found.icbhi4.score) == (100.0, 0.0, 50.0)


@pytest.mark.slow
@pytest.mark.spec("E4", "E5")
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), n=st.integers(10, 200), ties=st.booleans())
def test_metrics_against_scikit_learn(seed: int, classes: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n)])
    logits = rng.normal(size=(len(labels), classes))
    if ties:
        logits = logits.round()
    predicted = logits.argmax(axis=1)
    found = evaluate(logits, labels)
    assert found.confusion == sk.confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    assert found.accuracy == pytest.approx(100 * sk.accuracy_score(labels, predicted))
    assert found.uar == pytest.approx(100 * sk.recall_score(labels, predicted, average="macro"))
    assert found.recall == pytest.approx(100 * sk.recall_score(labels, predicted, average=None))
    areas = [sk.roc_auc_score(labels == c, softmax(logits)[:, c]) for c in range(classes)]
    assert found.auroc == pytest.approx(np.mean(areas))


def test_a_class_that_is_absent_has_no_recall() -> None:
    found = evaluate(logits_of([0, 1, 2]), np.array([0, 1, 1]))
    assert found.recall == [100.0, 50.0, None, None] and found.auroc is None and found.uar == 75.0
    assert "auroc" not in found.flat() and "recall_3" not in found.flat()
    assert found.flat()["score"] == found.icbhi4.score


@pytest.mark.parametrize(
    ("metric", "summary"),
    [
        ("icbhi4", (75.0, 50.0, 62.5)),
        ("icbhi2", (75.0, 75.0, 75.0)),
        ("accuracy", (75.0, 50.0, 62.5)),  # 5 of 8
        ("uar", (75.0, 50.0, 56.25)),  # 75, 50, 0 and 100
        ("sprsound", (75.0, 50.0, 61.25)),  # of 62.5 and 60
    ],
)
def test_a_summary_has_the_metric_s_own_number_behind_the_rates_that_go_with_it(
    metric: str, summary: tuple[float, ...]
) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    found = evaluate(logits_of([0, 0, 0, 1, 1, 2, 0, 3]), labels)
    assert found.summary(metric) == dict(zip(("specificity", "sensitivity", "score"), summary, strict=True))
    assert found.value(metric) == summary[-1]


def test_a_confusion_matrix_alone_gives_all_but_the_area() -> None:
    labels = np.array([0, 0, 1, 1, 2, 3])
    whole = evaluate(logits_of([0, 1, 1, 2, 2, 0]), labels)
    assert whole.auroc is not None
    assert metrics_of(np.array(whole.confusion)) == whole.model_copy(update={"auroc": None})


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.array([[0.0, np.nan]]), np.array([0]), "NaN or infinite"),
        (np.zeros((2, 2)), np.array([0, 2]), "not one of 2 classes"),
        (np.zeros((2, 2)), np.array([0]), "do not belong together"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "no cycle"),
        (np.zeros((1, 2)), np.array([0.5]), "whole numbers"),
    ],
)
def test_predictions_that_are_none_are_refused(logits: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        evaluate(logits, labels)
