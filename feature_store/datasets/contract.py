"""What a `Corpus` must hold, checked when it is opened: an adapter's fault is named where it is made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from feature_store.datasets.base import Corpus, Problem, Recording
from feature_store.errors import UserError, nearest
from feature_store.metrics import Metric
from feature_store.splits import SplitTable

SHOWN = 5  # faults that an error lists


def check_class(corpus: type[Corpus]) -> None:
    """Check what an adapter says of itself: its name, its tasks with their classes, and their metrics.

    Raises:
        UserError: the adapter breaks the contract; it names every fault.
    """
    _refuse(_place_of(corpus), list(_class_faults(corpus)))


def check_corpus(corpus: Corpus) -> None:
    """Check the recordings and cycles that an adapter has read.

    Raises:
        UserError: the adapter breaks the contract; it names faults with their file and recording.
    """
    _refuse(_place_of(type(corpus)), list(_corpus_faults(corpus)))


def splits_of(corpus: Corpus) -> dict[str, SplitTable]:
    """The corpus' splits, checked: each is under its own name and assigns only cycles of the corpus.

    Raises:
        UserError: they cannot be made, or break the contract.
    """
    splits = corpus.splits()
    known = {cycle.cycle_id for cycle in corpus.cycles()}
    faults = []
    for name, split in splits.items():
        if not isinstance(split, SplitTable) or split.name != name:
            faults.append(f"split '{name}' is not a SplitTable of that name")
            continue
        strangers = sorted(set(split.table["cycle_id"].to_pylist()) - known)
        if strangers:
            faults.append(f"split '{name}' has {len(strangers)} cycles that the corpus lacks, the first {strangers[0]}")
    _refuse(_place_of(type(corpus)), faults)
    return splits


def _class_faults(corpus: type[Corpus]) -> Iterator[str]:
    name = getattr(corpus, "name", None)
    if not isinstance(name, str) or not name or set(name) & set("/\\ "):
        yield f"`name` is {name!r}; it must be one word, which is a folder in the store"
    classes = getattr(corpus, "classes", None)
    if not isinstance(classes, dict) or not classes:
        yield f"`classes` is {classes!r}; it must give the class names of one task or more"
        return
    for task, names in classes.items():
        if not isinstance(names, tuple) or len(names) < 2 or not all(isinstance(word, str) for word in names):
            yield f"`classes` of task '{task}' is {names!r}; it must be a tuple of two names or more"
        elif len(set(names)) < len(names):
            yield f"`classes` of task '{task}' names a class twice: {', '.join(names)}"
    for task, metric in corpus.metrics.items():
        if task not in classes:
            yield f"`metrics` has an unknown task '{task}' ({nearest(task, classes)})"
        if metric not in get_args(Metric):
            yield f"`metrics` of task '{task}' is '{metric}' ({nearest(str(metric), get_args(Metric))})"


def _corpus_faults(corpus: Corpus) -> Iterator[str]:
    for attribute, kind in (("recordings", Recording), ("problems", Problem)):
        held = getattr(corpus, attribute, None)
        if not isinstance(held, list) or not all(isinstance(item, kind) for item in held):
            yield f"`{attribute}` is not a list of {kind.__name__}"
            return
    if not isinstance(getattr(corpus, "root", None), Path):
        yield "`root` is not a Path"
    names: set[str] = set()
    cycles: set[str] = set()
    for recording in corpus.recordings:
        where = f"{recording.annotation or recording.audio or corpus.root}, recording '{recording.name}'"
        if recording.name in names:
            yield f"{where}: another recording has this name"
        names.add(recording.name)
        if recording.audio is not None and not isinstance(recording.audio, Path):
            yield f"{where}: `audio` is {recording.audio!r}, not a Path"
        if not isinstance(recording.patient, str) or not recording.patient:
            yield f"{where}: `patient` is {recording.patient!r}, not a name"
        for cycle in recording.cycles:
            if cycle.cycle_id in cycles:
                yield f"{where}: two cycles are '{cycle.cycle_id}'"
            cycles.add(cycle.cycle_id)
            if (cycle.recording, cycle.patient) != (recording.name, recording.patient):
                yield f"{where}: cycle '{cycle.cycle_id}' is of '{cycle.recording}' and patient '{cycle.patient}'"
            if not (0 <= cycle.start < cycle.end < math.inf):
                yield f"{where}: cycle '{cycle.cycle_id}' lasts from {cycle.start} to {cycle.end} s"
            yield from (f"{where}: cycle '{cycle.cycle_id}' {fault}" for fault in _label_faults(corpus, cycle.labels))


def _label_faults(corpus: Corpus, labels: dict[str, int | None]) -> Iterator[str]:
    for task, label in labels.items():
        names = corpus.classes.get(task)
        if names is None:
            yield f"has a label of an unknown task '{task}' ({nearest(task, corpus.classes)})"
        elif label is not None and not (isinstance(label, int) and 0 <= label < len(names)):
            yield f"has the label {label!r} of task '{task}'; it must be 0 to {len(names) - 1}, or None"


def _place_of(corpus: type[Corpus]) -> str:
    try:
        file = inspect.getsourcefile(corpus) or corpus.__module__
    except TypeError:
        file = corpus.__module__
    return f"adapter {corpus.__name__} in {file}"


def _refuse(where: str, faults: list[str]) -> None:
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        what = f"breaks the contract of a Corpus: {'; '.join(faults[:SHOWN])}{more}"
        raise UserError(what, where=where, hint="fix the adapter; docs/architecture.md says what a Corpus holds")
