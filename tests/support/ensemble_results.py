"""Finished fold runs for tests of ensembles: predictions are drawn, the rest follows from them by the real code."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workers.evaluation import evaluate
from workers.results import PREDICTIONS, DataSummary, FoldKey, FoldResult, ProtocolResult, Provenance, ResultStore

CLASSES = ["normal", "crackle", "wheeze", "both"]
PATIENTS, CYCLES = 9, 90
NAMES = np.array([f"{101 + index % PATIENTS}" for index in range(CYCLES)])


def cycles_of(fold: int) -> dict[str, np.ndarray]:
    """The test side of a fold: equal for all members. Folds differ in size."""
    return _cycles(f"t{fold}", np.random.default_rng([1, fold]), CYCLES - 12 * fold)


def held_out_cycles(fold: int, seed: int) -> dict[str, np.ndarray]:
    """The cycles held out of a training: drawn by the seed, as in a real one."""
    return _cycles(f"h{fold}.{seed}", np.random.default_rng([2, fold, seed]), 60)


def _cycles(name: str, generator: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    labels = generator.permutation(np.arange(count) % 5 % 4)
    ids = np.array([f"{name}-{NAMES[index]}#{index:03d}" for index in range(count)])
    return {"cycle_id": ids, "patient": NAMES[:count], "label": labels}


def guesses(labels: np.ndarray, skill: float, *seed: int) -> np.ndarray:
    """Logits ``[cycles, 4]`` that are right by `skill`."""
    logits = np.random.default_rng([3, *seed]).normal(size=(len(labels), 4))
    logits[np.arange(len(labels)), labels] += skill
    return logits.astype(np.float32)


def publish(
    store: ResultStore,
    config: str,
    *,
    fold: int = 0,
    seed: int = 0,
    skill: float = 1.0,
    test: dict[str, np.ndarray] | None = None,
    held_out: dict[str, np.ndarray] | None = None,
    order: Sequence[int] | None = None,
    test_skill: float | None = None,
    **changes: Any,
) -> str:
    """Publish one fold run; returns its hash.

    Args:
        store: where to.
        config: stands for its hash.
        fold, seed: of the run.
        skill: of its predictions, on the test side `test_skill` if that is given.
        test, held_out: its sides, the usual ones if not given; with a column `logits`, these are its predictions.
        order: of the rows of both sides.
        changes: of the key (`split`, `split_hash`, `data_hash`, `semantics`), the summary of the data, or `compat`.
    """
    numbers = [int.from_bytes(config.encode(), "big") % 2**32, fold, seed]
    sides = {"test": test or cycles_of(fold), "validation": held_out or held_out_cycles(fold, seed)}
    skills = {"test": skill if test_skill is None else test_skill, "validation": skill}
    tables, metrics = [], {}
    for shift, protocol in enumerate(("last", "validation")):
        for name, side in sides.items():
            side = dict(side)
            logits = side.setdefault("logits", guesses(side["label"], skills[name] + 0.1 * shift, *numbers, shift))
            metrics[protocol, name] = evaluate(logits, side["label"])
            rows = np.arange(len(logits)) if order is None else np.asarray(order)[np.asarray(order) < len(logits)]
            tables.append(_table({column: values[rows] for column, values in side.items()}, name, protocol))
    key = {"semantics": 1, "config_hash": config, "data_hash": "data", "feature_id": "f", "split": "official",
           "split_hash": "table", "fold": fold, "seed": seed}  # fmt: skip
    key |= {name: value for name, value in changes.items() if name in key}
    data = {"dataset": "icbhi", "task": "lungsound4", "classes": CLASSES, "metric": "icbhi4", "synthetic": False,
            "recordings": 920, "recordings_listed": 920, "train": 100, "validation": 60, "test": CYCLES,
            "train_patients": 40, "validation_patients": 9, "test_patients": PATIENTS, "train_class_counts": [25] * 4,
            "patients_on_both_sides": []}  # fmt: skip
    data |= {name: value for name, value in changes.items() if name in data}
    fold_key = FoldKey.model_validate(key)
    model = {"name": "cnn6", "width": 1.0}
    result = FoldResult(
        hash=fold_key.hash,
        key=fold_key,
        config={"model": model, "objective": {"name": "ce"}, "training": {"watch_test": False}},
        compat=changes.get("compat", []),
        protocols={
            name: ProtocolResult(epoch=3, test=metrics[name, "test"], validation=metrics[name, "validation"])
            for name in ("last", "validation")
        },
        epochs=[],
        data=DataSummary.model_validate(data),
        model={"parameters": 1000},
        provenance=Provenance(
            lungtune="0", git_commit="c", python="3", torch="2", device="cpu", hostname="h", started="a", finished="b",
            command="lungtune train",
        ),
        timing={"train_seconds": 1.0},
        memory={},
        test_reads=1,
    )  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink)
    assert store.publish(result, {PREDICTIONS: sink.getvalue()})
    return result.hash


def _table(side: dict[str, np.ndarray], name: str, protocol: str) -> pa.Table:
    rows = len(side["label"])
    return pa.table(
        {
            "cycle_id": side["cycle_id"].tolist(),
            "patient": side["patient"].tolist(),
            "device": ["Meditron"] * rows,
            "label": side["label"].astype(np.int8),
            "side": [name] * rows,
            "protocol": [protocol] * rows,
            "logits": pa.array(side["logits"].tolist(), pa.list_(pa.float32())),
        }
    )
