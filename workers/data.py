"""One fold's tensors: which rows of the mapped feature are trained, held out and tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.errors import UserError, nearest
from feature_store.metrics import POOR_QUALITY
from feature_store.same_sounds import same_sounds_in
from feature_store.splits import SIDES, SplitTable, hold_out_patients, patients_on_both_sides, select_devices
from feature_store.store import FeatureStore
from workers.config import ExperimentConfig
from workers.events import EventFrames, locate_events
from workers.results import DataSummary


@dataclass(frozen=True)
class FoldData:
    """Rows of one feature, and the sides of one fold.

    Attributes:
        values: ``[cycles, frames, bins]``, read-only, shared by all processes of the node; where augmented copies are
            stored, ``[cycles, 1 + copies, frames, bins]`` with the cycle itself first; a feature of several maps has
            an axis for them before the frames.
        labels: ``[cycles]`` int64; -1 where a cycle has no label for the task.
        cycle_ids, patients, devices: ``[cycles]``.
        own_frames: ``[cycles]`` frames of each cycle's own sound, before the padding begins.
        train, validation, test: row numbers. `validation` is held out of the fold's training side.
        summary: counts and names, for the record.
        channels: maps of a cycle; None where the values have no axis for them.
        scalars: ``[cycles, scalars]`` float32 beside the values; None where the feature has none.
        events: annotated events of the training side; None where the config makes no use of them.
        seconds: of sound that the feature holds.
        packed: whether the model receives how much of a cycle is its own sound.
    """

    values: np.ndarray
    labels: np.ndarray
    cycle_ids: np.ndarray
    patients: np.ndarray
    devices: np.ndarray
    own_frames: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    summary: DataSummary
    channels: int | None = None
    scalars: np.ndarray | None = None
    events: EventFrames | None = None
    seconds: float = 0.0
    packed: bool = False

    @property
    def classes(self) -> int:
        return len(self.summary.classes)

    @property
    def versioned(self) -> bool:
        """Whether augmented copies are stored beside each cycle."""
        return self.values.ndim == (4 if self.channels is None else 5)

    @property
    def originals(self) -> np.ndarray:
        """The values without augmented copies."""
        return self.values[:, 0] if self.versioned else self.values


def task_classes(store: FeatureStore, config: ExperimentConfig) -> list[str]:
    """Class names of the config's task.

    Raises:
        UserError: the dataset does not have the task, or the training's metric is not one of the task.
    """
    known = store.dataset(config.dataset)["classes"]
    if config.task not in known:
        raise UserError(f"dataset '{config.dataset}' has no task '{config.task}'", hint=nearest(config.task, known))
    classes = list(known[config.task])
    if config.training.metric == "sprsound_record" and classes[-1] != POOR_QUALITY:
        what = f"sprsound_record leaves the class '{POOR_QUALITY}' out, which task '{config.task}' does not have last"
        raise UserError(what, where="training.metric", hint="its tasks are record3 and record5 of sprsound")
    return classes


def data_hash(content_hash: str, cycles: pa.Table, task: str, events: pa.Table | None = None) -> str:
    """16 hex digits over a feature's content and the labels of a task, and over events where they are used."""
    digest = hashlib.sha256(content_hash.encode())
    order = np.argsort(cycles["cycle_id"].to_numpy(zero_copy_only=False).astype(str))
    digest.update("\n".join(cycles["cycle_id"].take(pa.array(order)).to_pylist()).encode())
    digest.update(_labels(cycles, task)[order].tobytes())
    if events is not None:
        digest.update(json.dumps(sorted(map(list, zip(*events.to_pydict().values(), strict=True)))).encode())
    return digest.hexdigest()[:16]


def load_fold(
    store: FeatureStore, config: ExperimentConfig, split: SplitTable, fold: int, seed: int, cache: Path
) -> FoldData:
    """Map the feature and lay out one fold.

    Raises:
        UserError: the store lacks the feature, the task, the fold or a device, or a side would be empty.
    """
    classes = task_classes(store, config)
    features = store.load(config.dataset, config.feature.feature_id, cache)
    row_of = {cycle_id: row for row, cycle_id in enumerate(features.cycle_ids)}
    cycles = _in_order(store.cycles(config.dataset), row_of)
    labels = _labels(cycles, config.task)
    patients = np.asarray(cycles["patient"].to_pylist())

    if fold not in split.folds():
        raise UserError(f"split '{split.name}' has no fold {fold}", hint=f"known: {split.folds()}")
    if config.devices is not None:
        split = _of_devices(split, cycles, config.devices, fold)
    rows = {
        side: np.array(
            sorted(row_of[c] for c in split.side(fold, side) if c in row_of and labels[row_of[c]] >= 0), dtype=np.int64
        )
        for side in SIDES
    }
    for side, found in rows.items():
        if not len(found):
            raise UserError(
                f"the {side} side of split '{split.name}', fold {fold}, is empty for dataset '{config.dataset}'",
                hint="is only a part of the database in the store?",
            )
    fraction = config.training.validation_fraction
    sides = hold_out_patients(rows["train"], patients[rows["train"]], labels[rows["train"]], fraction, seed)
    train, validation = (np.asarray(side, dtype=np.int64) for side in sides)
    about = store.dataset(config.dataset)
    summary = DataSummary(
        dataset=config.dataset,
        task=config.task,
        classes=classes,
        metric=store.metric(config.dataset, config.task),
        synthetic=bool(about.get("synthetic", False)),
        recordings=len(set(cycles["recording"].to_pylist())),
        recordings_listed=about["recordings_listed"],
        train=len(train),
        validation=len(validation),
        test=len(rows["test"]),
        train_patients=len(set(patients[train])),
        validation_patients=len(set(patients[validation])),
        test_patients=len(set(patients[rows["test"]])),
        train_class_counts=np.bincount(labels[train], minlength=len(classes)).tolist(),
        patients_on_both_sides=patients_on_both_sides(split, cycles).get(fold, []),
        split_source=about.get("split_source", "") if split.name.startswith("official") else "",
        **_same_sounds(cycles, config.task, set(rows["train"].tolist()), set(rows["test"].tolist())),
    )
    return FoldData(
        values=features.values,
        labels=labels,
        cycle_ids=np.asarray(features.cycle_ids),
        patients=patients,
        devices=np.asarray(cycles["device"].to_pylist()),
        own_frames=config.own_frames(cycles["end"].to_numpy() - cycles["start"].to_numpy()),
        train=train,
        validation=validation,
        test=rows["test"],
        summary=summary,
        channels=config.feature.channels,
        scalars=features.scalars,
        events=(
            locate_events(store.events(config.dataset), cycles, train, config.feature)
            if config.training.event_scale
            else None
        ),
        seconds=config.feature.seconds,
        packed=config.packed,
    )


def _same_sounds(cycles: pa.Table, task: str, train: set[int], test: set[int]) -> dict[str, list[str]]:
    """Recordings of the fold whose sound has another name, for a `DataSummary`; `train` and `test` are rows."""
    names = cycles["recording"].to_pylist()
    trained, tested = ({names[row] for row in side} for side in (train, test))
    sounds = same_sounds_in(cycles, task)
    doubtful = [sound for sound in sounds if len(sound.patients) > 1 or sound.labels_differ]
    used = trained | tested
    return {
        "sounds_on_both_sides": sorted(
            name for sound in sounds if sound.crosses(trained, tested) for name in sound.recordings if name in tested
        ),
        "sounds_in_doubt": sorted(name for sound in doubtful for name in sound.recordings if name in used),
    }


def _in_order(cycles: pa.Table, row_of: dict[str, int]) -> pa.Table:
    """The cycles that the feature holds, in its order."""
    ids = cycles["cycle_id"].to_pylist()
    position = {cycle_id: index for index, cycle_id in enumerate(ids)}
    missing = [cycle_id for cycle_id in row_of if cycle_id not in position]
    if missing:
        raise UserError(
            f"{len(missing)} cycles of the feature are not in cycles.parquet, the first is {missing[0]}",
            hint="run `lungtune features build` for this feature again",
        )
    return cycles.take(pa.array([position[cycle_id] for cycle_id in row_of]))


def _labels(cycles: pa.Table, task: str) -> np.ndarray:
    return cycles[task].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _of_devices(split: SplitTable, cycles: pa.Table, devices: Sequence[str], fold: int) -> SplitTable:
    """The cycles of one fold that were recorded with some devices.

    Raises:
        UserError: there is no such device, or a side would be empty.
    """
    known = sorted(set(cycles["device"].to_pylist()))
    for device in devices:
        if device not in known:
            raise UserError(f"no recording was made with '{device}'", where="devices", hint=nearest(device, known))
    one = SplitTable.of_sides(split.name, {fold: {side: split.side(fold, side) for side in SIDES}})
    return select_devices(one, cycles, devices)
