"""Accuracies of the breathing-phase classifier on both splits, from stored predictions: docs/breathing_phase.md.

    LUNGTUNE_HOME=... python -m benchmarks.breathing_phase

Nothing is trained. Intervals are of 95 %, by bootstrap over source recordings, of the mean over seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.settings import Settings
from workers.ensembles import EnsembleStore
from workers.evaluation import evaluate
from workers.results import ResultStore

DATASET, RESAMPLES = "breathing-phase", 2000


class Row(NamedTuple):
    """What stands in one row of the table: the predictions of all seeds belong to it."""

    split: str
    model: str
    protocol: str


def main() -> None:
    settings = Settings.load()
    results = ResultStore.open(settings.results)
    said: dict[Row, list[pa.Table]] = defaultdict(list)
    for row, table in [*_models(results), *_ensembles(settings.results)]:
        said[row].append(table)
    print("| split | model | epoch | seeds | accuracy [95 %] | sd | AUC | precision | recall | F1 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(said):
        print(_line(row, said[row]))


def _models(results: ResultStore) -> Iterator[tuple[Row, pa.Table]]:
    for result in results.iterate():
        if result.data.dataset != DATASET:
            continue
        model, training = result.config["model"], result.config["training"]
        name = f"{model['name']}, resize {model['resize']:g}, {training['epochs']} epochs"
        table = results.predictions(result.hash)
        for protocol in result.protocols:
            own = table.filter(pc.equal(table["protocol"], protocol))
            yield Row(result.key.split, name, protocol), own


def _ensembles(uri: str) -> Iterator[tuple[Row, pa.Table]]:
    store = EnsembleStore.open(uri)
    for name in store.hashes():
        stored = store.get(name)
        if stored is not None and stored.dataset == DATASET:
            of = f"ensemble of {len(stored.members)}, {stored.method} by {stored.settings.by}"
            yield Row(stored.split, of, stored.protocol), store.predictions(name)


def _line(row: Row, tables: list[pa.Table]) -> str:
    metrics = [evaluate(_logits(table), table["label"].to_numpy().astype(int)) for table in tables]
    accuracies = [one.accuracy for one in metrics]
    low, high = _interval(tables)
    spread = f"{np.std(accuracies, ddof=1):.2f}" if len(tables) > 1 else ""
    of_exhale = [np.mean([values[1] for values in column]) for column in zip(
        *((one.precision, one.recall, one.f1) for one in metrics), strict=True
    )]  # fmt: skip
    area = np.mean([one.auroc for one in metrics])
    numbers = " | ".join(f"{value:.1f}" for value in of_exhale)
    accuracy = f"{np.mean(accuracies):.1f} [{low:.1f}, {high:.1f}]"
    of_row = f"{row.split} | {row.model} | {row.protocol} | {len(tables)}"
    return f"| {of_row} | {accuracy} | {spread} | {area:.3f} | {numbers} |"


def _logits(table: pa.Table) -> np.ndarray:
    return table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)


def _interval(tables: list[pa.Table]) -> tuple[float, float]:
    """Of the mean accuracy over seeds, over resamples of source recordings."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for table in tables:
        hits = _logits(table).argmax(axis=1) == table["label"].to_numpy()
        for source, hit in zip(table["patient"].to_pylist(), hits, strict=True):
            sums[source] += (hit, 1)
    counts = np.array(list(sums.values()))
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    resampled = counts[drawn].sum(axis=1)
    low, high = np.percentile(100 * resampled[:, 0] / resampled[:, 1], (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
