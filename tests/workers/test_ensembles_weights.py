"""Weights of ensembles against hand computations, scipy, numpy and a second implementation.

Specified in docs/specification.md, N1, N2.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import accuracy_score, recall_score

from workers.ensembles.weights import combine, greedy_weights, mean_weights, measured, score_weights, softmax_weights


def drawn(members: int, cycles: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[members, cycles, classes]`` and labels that hold every class."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(classes, size=cycles - classes)])
    logits = generator.normal(size=(members, cycles, classes))
    logits[:, np.arange(cycles), labels] += generator.uniform(0, 1.5, size=(members, 1))
    return scipy_softmax(logits, axis=-1), labels


@pytest.mark.spec("N1")
def test_the_mean_of_five_is_their_sum_by_argmax() -> None:
    probabilities, _ = drawn(5, 1000, 5, 0)
    logits = combine(probabilities, mean_weights(5))
    assert np.array_equal(logits.argmax(axis=1), probabilities.sum(axis=0).argmax(axis=1))
    assert np.allclose(scipy_softmax(logits.astype(np.float64), axis=1), probabilities.mean(axis=0), atol=1e-6)


@pytest.mark.spec("N2")
def test_softmax_of_the_published_accuracies_gives_the_published_weights() -> None:
    weights = softmax_weights(np.array([0.778, 0.792]))
    assert weights.round(4).tolist() == [0.4965, 0.5035]
    assert np.allclose(weights, scipy_softmax([0.778, 0.792]))


@pytest.mark.spec("N2")
def test_score_weights_are_shares_of_the_sum() -> None:
    assert score_weights(np.array([0.6, 0.3, 0.3])).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert score_weights(np.zeros(4)).tolist() == [0.25] * 4


@pytest.mark.spec("N2")
def test_two_classes_combine_to_the_weighted_mean_of_sigmoids() -> None:
    generator = np.random.default_rng(2)
    one_logit, weights = generator.normal(scale=3, size=(2, 50)), np.array([0.4965, 0.5035])
    two = scipy_softmax(np.stack([np.zeros_like(one_logit), one_logit], axis=-1), axis=-1)
    logits = combine(two, weights).astype(np.float64)
    expected = np.average(expit(one_logit), axis=0, weights=weights)
    assert np.allclose(expit(logits[:, 1] - logits[:, 0]), expected, atol=1e-6)
    assert np.array_equal(logits.argmax(axis=1), (expected > 0.5).astype(int))


def test_a_probability_of_zero_stays_a_finite_logit() -> None:
    certain = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    logits = combine(certain, mean_weights(2))
    assert np.isfinite(logits).all() and logits.argmax() == 0


def test_measures_are_those_of_the_literature() -> None:
    probabilities, labels = drawn(1, 300, 4, 5)
    predicted = probabilities[0].argmax(axis=1)
    assert measured(probabilities[0], labels, "accuracy") == pytest.approx(accuracy_score(labels, predicted))
    abnormal = labels > 0
    specificity = recall_score(labels == 0, predicted == 0)
    sensitivity = accuracy_score(labels[abnormal], predicted[abnormal])
    mean, harmonic = (specificity + sensitivity) / 2, 2 * specificity * sensitivity / (specificity + sensitivity)
    assert measured(probabilities[0], labels, "icbhi4") == pytest.approx(mean)
    assert measured(probabilities[0], labels, "sprsound") == pytest.approx((mean + harmonic) / 2)
    recall = recall_score(labels, predicted, average="macro")
    assert measured(probabilities[0], labels, "uar") == pytest.approx(recall)


def test_greedy_selection_takes_the_two_that_complete_each_other() -> None:
    """The third is better than either alone, but adds nothing to the two together."""
    labels = np.array([0, 0, 1, 1])
    right = np.array(
        [[0.9, 0.6, 0.1, 0.4], [0.4, 0.1, 0.9, 0.9], [0.9, 0.9, 0.9, 0.2]]
    )  # probability of the true class
    probabilities = np.zeros((3, 4, 2))
    for member in range(3):
        for cycle in range(4):
            probabilities[member, cycle, labels[cycle]] = right[member, cycle]
            probabilities[member, cycle, 1 - labels[cycle]] = 1 - right[member, cycle]
    # alone: 0.5, 0.5, 0.75 -> the third first; with it the second gives 0.65, 0.5, 0.9, 0.55: all but a tie, to class 0
    assert greedy_weights(probabilities, labels, "accuracy", 1).tolist() == [0, 0, 1]
    assert greedy_weights(probabilities, labels, "accuracy", 9).tolist() == [0, 0.5, 0.5]


def greedy_by_the_book(probabilities: np.ndarray, labels: np.ndarray, rounds: int) -> Counter[int]:
    """Second implementation: names of the best prefix, every candidate's mean computed from the list of names."""
    names: list[int] = []
    best: tuple[float, list[int]] = (-1.0, [])
    for _ in range(rounds):
        reached = []
        for candidate in range(len(probabilities)):
            mean = np.sum([probabilities[name] for name in [*names, candidate]], axis=0)
            reached.append(float(np.mean(mean.argmax(axis=1) == labels)))
        names = [*names, reached.index(max(reached))]
        if max(reached) > best[0]:
            best = max(reached), names
    return Counter(best[1])


@pytest.mark.slow
@hypothesis_settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), members=st.integers(2, 6), rounds=st.integers(1, 12))
def test_greedy_selection_is_that_of_the_book_and_never_below_the_best_member(
    seed: int, members: int, rounds: int
) -> None:
    probabilities, labels = drawn(members, 40, 4, seed)
    weights = greedy_weights(probabilities, labels, "accuracy", rounds)
    chosen = greedy_by_the_book(probabilities, labels, rounds)
    expected = np.array([chosen[member] for member in range(members)]) / chosen.total()
    assert np.allclose(weights, expected)
    for metric in ("accuracy", "icbhi4"):
        found = greedy_weights(probabilities, labels, metric, rounds)
        together = measured(np.tensordot(found, probabilities, axes=1), labels, metric)
        alone = max(measured(own, labels, metric) for own in probabilities)
        assert together >= alone - 1e-12
        assert found.sum() == pytest.approx(1.0) and (found >= 0).all()


def test_of_equal_members_the_first_is_selected() -> None:
    probabilities, labels = drawn(1, 40, 4, 9)
    assert greedy_weights(np.repeat(probabilities, 3, axis=0), labels, "icbhi4", 10).tolist() == [1, 0, 0]
