"""Predictions condensed to what a ranking needs: hits by patient, and sums for the calibration error."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.metrics import Metric
from orchestrator.analysis.bootstrap import PatientHits, patient_hits
from orchestrator.analysis.calibration import BINS, reliability_sums
from workers.evaluation import softmax
from workers.predictions import Predictions


@dataclass(frozen=True)
class Tally:
    """A fold run under one protocol, without its cycles.

    Attributes:
        cycles_hash: equal for runs tested on the same cycles in the same order.
        hits: by patient.
        calibration: `calibration.reliability_sums`.
    """

    cycles_hash: str
    hits: PatientHits
    calibration: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """To be kept as JSON; arrays as base64, which is read twenty times as fast as lists of numbers."""
        return {
            "cycles": self.cycles_hash,
            "metric": self.hits.metric,
            "patients": list(self.hits.patients),
            "counts": _encoded(self.hits.counts.astype("<i4")),
            "calibration": _encoded(self.calibration.astype("<f8")),
        }

    @classmethod
    def of_dict(cls, content: dict[str, Any]) -> Tally:
        patients = tuple(content["patients"])
        counts = _decoded(content["counts"], "<i4", len(patients)).astype(np.int64)
        calibration = _decoded(content["calibration"], "<f8", BINS)
        return cls(content["cycles"], PatientHits(patients, counts, metric=content["metric"]), calibration)


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _decoded(text: str, kind: str, rows: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(rows, -1)


def tally(predictions: Predictions, metric: Metric) -> Tally:
    """Condense a run's predictions to what a ranking by a metric needs."""
    predicted, classes = predictions.logits.argmax(axis=1), predictions.logits.shape[1]
    return Tally(
        cycles_hash(predictions),
        patient_hits(predicted, predictions.labels, predictions.patients, metric, classes),
        reliability_sums(softmax(predictions.logits), predictions.labels),
    )


def cycles_hash(predictions: Predictions) -> str:
    """16 hex digits over the cycles, their labels and their patients, in their order."""
    digest = hashlib.sha256("\n".join(predictions.cycle_ids.tolist()).encode())
    digest.update(predictions.labels.astype(np.int64).tobytes())
    digest.update("\n".join(predictions.patients.tolist()).encode())
    return digest.hexdigest()[:16]
