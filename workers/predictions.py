"""Stored predictions: the logits of a side's cycles, read from Parquet and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import UserError
from workers.evaluation import softmax
from workers.results import PREDICTIONS, DataSummary, ResultStore

BROKEN = (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What reading a table of predictions raises where the file is damaged or holds something else."""


@dataclass(frozen=True)
class Predictions:
    """One side of one fold run or ensemble under one protocol, in the order of the file.

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

    @property
    def probabilities(self) -> np.ndarray:
        """``[cycles, classes]`` float64."""
        return softmax(self.logits)

    def in_order_of(self, other: Predictions) -> Predictions | None:
        """The same cycles in another's order; None where the cycles or their labels are not the same."""
        if len(self.cycle_ids) != len(other.cycle_ids):
            return None
        mine, theirs = np.argsort(self.cycle_ids), np.argsort(other.cycle_ids)
        order = np.empty(len(mine), dtype=np.int64)
        order[theirs] = mine
        same = np.array_equal(self.cycle_ids[order], other.cycle_ids)
        return self.rows(order) if same and np.array_equal(self.labels[order], other.labels) else None

    def rows(self, chosen: np.ndarray) -> Predictions:
        """Some of the cycles, by a mask, or by their places in another order."""
        return Predictions(
            self.logits[chosen],
            self.labels[chosen],
            self.patients[chosen],
            self.devices[chosen],
            self.cycle_ids[chosen],
        )


def predictions_of(results: ResultStore, name: str, protocol: str) -> Predictions:
    """The test side of a result.

    Raises:
        UserError: the result has no predictions, or none of that protocol, or they cannot be read.
    """
    found = read_predictions(results, name).get(protocol)
    if found is None:
        raise UserError(f"{PREDICTIONS} has no rows of protocol '{protocol}'", where=f"result {name[:12]}")
    return found


def read_predictions(results: ResultStore, name: str) -> dict[str, Predictions]:
    """The test side of a result, by protocol.

    Raises:
        UserError: the result has no predictions, or they cannot be read.
    """
    return {protocol: found for (_, protocol), found in _read(results, name, "test").items()}


def read_both_sides(results: ResultStore, name: str) -> dict[tuple[str, str], Predictions]:
    """The test side and the patients held out of the training, by side (``test``, ``validation``) and protocol.

    Raises:
        UserError: the result has no predictions, or they cannot be read.
    """
    return _read(results, name, None)


def _read(results: ResultStore, name: str, side: str | None) -> dict[tuple[str, str], Predictions]:
    try:
        table = results.predictions(name, side)
        sides, protocols = _strings(table["side"]), _strings(table["protocol"])
        found = of_table(table)
    except BROKEN as error:
        what = f"{PREDICTIONS} of result {name} cannot be read: {error}"
        raise UserError(what, hint="delete its folder to have the fold trained again") from error
    parts = sorted(set(zip(sides.tolist(), protocols.tolist(), strict=True)))
    return {part: found.rows((sides == part[0]) & (protocols == part[1])) for part in parts}


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
    """Compare predictions with the summary of the result's test side.

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
