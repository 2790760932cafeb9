"""How far a probability can be taken at its word: reliability diagram, expected and maximum calibration error.

Guo et al. 2017, "On calibration of modern neural networks": bins of equal width over the probability of the predicted
class; the error of a bin is the gap between its mean probability and its share of hits.
"""

from __future__ import annotations

import numpy as np

from orchestrator.analysis.items import Reliability, ReliabilityBin

BINS = 15


def reliability_sums(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Cycles, summed probability and hits of each bin, ``[bins, 3]``; sums of several runs may be added.

    Args:
        probabilities: ``[cycles, classes]``.
        labels: ``[cycles]`` true classes.
        bins: of equal width; bin k holds ``(k / bins, (k + 1) / bins]``.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), predicted]
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    columns = (None, confidence, predicted == labels)
    return np.stack([np.bincount(place, weights=column, minlength=bins) for column in columns], axis=1)


def reliability(sums: np.ndarray) -> Reliability:
    """The diagram's bins and its two errors, in percent points.

    Args:
        sums: `reliability_sums`, of one cycle at least.
    """
    filled = np.flatnonzero(sums[:, 0])
    cycles, confidence, accuracy = sums[filled, 0], sums[filled, 1], sums[filled, 2]
    confidence, accuracy = confidence / cycles, accuracy / cycles
    gaps = 100.0 * np.abs(confidence - accuracy)
    return Reliability(
        bins=[
            ReliabilityBin(
                low=place / len(sums),
                high=(place + 1) / len(sums),
                confidence=confidence[row],
                accuracy=accuracy[row],
                cycles=int(cycles[row]),
            )
            for row, place in enumerate(filled.tolist())
        ],
        ece=float(gaps @ cycles / cycles.sum()),
        mce=float(gaps.max()),
    )


def calibration_error(sums: np.ndarray) -> float:
    """Expected calibration error alone: the bins' gaps, weighted by their cycles, in percent points."""
    return 100.0 * float(np.abs(sums[:, 1] - sums[:, 2]).sum() / sums[:, 0].sum())
