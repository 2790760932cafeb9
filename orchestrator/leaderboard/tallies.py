"""Predictions condensed to what a ranking needs: hits by patient, and sums for the calibration error."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import UserError
from feature_store.metrics import Metric
from orchestrator.leaderboard.calibration import BINS, reliability_sums
from orchestrator.leaderboard.statistics import PatientHits, patient_hits
from workers.evaluation import softmax
from workers.results import PREDICTIONS, DataSummary, ResultStore

BROKEN = (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What reading a table of predictions raises where the file is damaged or holds something else."""


@dataclass(frozen=True)
class Predictions:
    """Test side of one fold run under one protocol, in the order of the file.

    Attributes:
        logits: ``[cycles, classes]``.
        labels: ``[cycles]``.
        patients, devices, cycle_ids: ``[cycles]`` strings.
    """

    logits: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    devices: np.ndarray
    cycle_ids: np.ndarray

    def rows(self, chosen: np.ndarray) -> Predictions:
        """Some of the cycles, by a mask."""
        return Predictions(
            self.logits[chosen],
            self.labels[chosen],
            self.patients[chosen],
            self.devices[chosen],
            self.cycle_ids[chosen],
        )


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


def read_predictions(results: ResultStore, name: str) -> dict[str, Predictions]:
    """The test side of a result, by protocol.

    Raises:
        UserError: the result has no predictions, or they cannot be read.
    """
    try:
        table = results.predictions(name)
        protocols = _strings(table["protocol"])
        predictions = of_table(table)
    except BROKEN as error:
        what = f"{PREDICTIONS} of result {name} cannot be read: {error}"
        raise UserError(what, hint="delete its folder to have the fold trained again") from error
    return {protocol: predictions.rows(protocols == protocol) for protocol in sorted(set(protocols.tolist()))}


def of_table(table: pa.Table) -> Predictions:
    """The rows of a table of predictions.

    Raises:
        One of `BROKEN`: a column is missing, of another type or has gaps; logits differ in length or are not finite;
            a label is no class.
    """
    if missing := {"label", "logits", "patient", "device", "cycle_id"} - set(table.column_names):
        raise ValueError(f"it has no column {sorted(missing)[0]}")
    if not pa.types.is_integer(table["label"].type) or table["label"].null_count:
        raise ValueError("column label must hold whole numbers, without gaps")
    labels = table["label"].to_numpy().astype(np.int64)
    rows = table["logits"].combine_chunks()
    if table["logits"].null_count or len(set(pc.list_value_length(rows).to_pylist())) > 1:
        raise ValueError("logits differ in length")
    logits = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(labels), -1)
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not a number")
    if len(labels) and not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"a label is none of {logits.shape[1]} classes")
    who = (_strings(table[column]) for column in ("patient", "device", "cycle_id"))
    return Predictions(logits, labels, *who)


def check_side(predictions: Predictions, data: DataSummary, of: str) -> None:
    """Compare predictions with what the result says of its test side.

    Raises:
        UserError: they are of other classes, of more or fewer cycles, or of more or fewer patients.
    """
    patients = len(set(predictions.patients.tolist()))
    found = {
        "classes": (predictions.logits.shape[1], len(data.classes)),
        "cycles": (len(predictions.labels), data.test),
        "patients": (patients, data.test_patients),
    }
    for what, (stored, named) in found.items():
        if stored != named:
            hint = "delete its folder to have the fold trained again"
            raise UserError(f"{PREDICTIONS} of {of} has {stored} {what}, its test side {named}", hint=hint)


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    """Few distinct strings or many, as numpy's objects."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if column.null_count or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError("a column of names must hold text, without gaps")
    coded = column.combine_chunks().dictionary_encode()
    coded = coded if isinstance(coded, pa.DictionaryArray) else coded.combine_chunks()
    return np.asarray(coded.dictionary.to_pylist(), dtype=object)[coded.indices.to_numpy()]
