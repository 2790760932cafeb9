"""How much each member of an ensemble counts. Arrays in, arrays out; every weight is at least 0, and they sum to 1."""

from __future__ import annotations

import numpy as np

from feature_store.metrics import Metric
from workers.evaluation import confusion_matrix, metrics_of

TINY = float(np.finfo(np.float32).tiny)


def mean_weights(members: int) -> np.ndarray:
    """All members alike: ``[members]``."""
    return np.full(members, 1.0 / members)


def score_weights(values: np.ndarray) -> np.ndarray:
    """In proportion to what each reached on the held-out patients; all alike where nobody reached anything.

    Args:
        values: ``[members]``, 0 to 1.
    """
    values = np.asarray(values, dtype=np.float64)
    return values / values.sum() if values.sum() > 0 else mean_weights(len(values))


def softmax_weights(values: np.ndarray) -> np.ndarray:
    """Softmax of what each reached on the held-out patients, as in the breathing-phase classifier's ensemble.

    The values go in as shares, so the weights hardly differ: accuracies of 0.778 and 0.792 give 0.4965 and 0.5035.

    Args:
        values: ``[members]``, 0 to 1.
    """
    exponentials = np.exp(np.asarray(values, dtype=np.float64) - np.max(values))
    return exponentials / exponentials.sum()


def greedy_weights(probabilities: np.ndarray, labels: np.ndarray, metric: Metric, rounds: int) -> np.ndarray:
    """Forward selection with replacement (Caruana et al., 2004, "Ensemble selection from libraries of models").

    Each round adds the member with which the mean of all added so far does best; of equal ones the first. The best
    prefix of all rounds counts; of equal ones the shortest. A member's weight is its share of that prefix.

    Args:
        probabilities: ``[members, cycles, classes]`` of the held-out cycles.
        labels: ``[cycles]`` true classes.
        metric: what is to be large.
        rounds: of selection.
    """
    counts, total = np.zeros(len(probabilities)), np.zeros(probabilities.shape[1:])
    best, best_counts = -1.0, counts
    for _ in range(rounds):
        reached = [measured(total + candidate, labels, metric) for candidate in probabilities]
        chosen = int(np.argmax(reached))
        counts = counts + np.eye(len(counts))[chosen]
        total = total + probabilities[chosen]
        if reached[chosen] > best:
            best, best_counts = reached[chosen], counts
    return best_counts / best_counts.sum()


def measured(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> float:
    """A metric as a share, 0 to 1.

    Args:
        probabilities: ``[cycles, classes]``, at least one cycle; only their order within a cycle counts.
        labels: ``[cycles]``.
        metric: as `workers.evaluation.Metrics.value` takes it.
    """
    confusion = confusion_matrix(probabilities.argmax(axis=1), labels, probabilities.shape[1])
    return metrics_of(confusion).value(metric) / 100.0


def combine(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of probabilities, as logits ``[cycles, classes]`` float32 whose softmax it is.

    Args:
        probabilities: ``[members, cycles, classes]``.
        weights: ``[members]``, summing to 1.
    """
    mean = np.tensordot(weights, probabilities, axes=1)
    return np.log(np.maximum(mean, TINY)).astype(np.float32)
