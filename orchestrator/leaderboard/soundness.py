"""Whether a result holds together: one that does not is named on the board and left out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from feature_store.counted import counted
from feature_store.errors import UserError
from orchestrator.analysis.labels import describe_model, describe_objective, pretraining
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.site.index import NAME
from workers.config import ExperimentConfig
from workers.evaluation import Metrics, metrics_of
from workers.numbers_version import VERSION
from workers.results import DataSummary, FoldResult

TAGS = {"feature": "kind", "model": "name", "objective": "name", "optim": "name"}  # part of a config -> what it is
TOLERANCE = 0.01  # percent points between a stored number and that of the stored confusion matrix


def fault_of(name: str, result: FoldResult) -> str | None:
    """What is wrong with a result, as far as it shows without its predictions; None where nothing is.

    Args:
        name: under which the store has it.
        result: without its epochs.
    """
    if result.hash != name or result.key.hash != name:
        return f"its name, its hash ({result.hash[:12]}) and that of its key ({result.key.hash[:12]}) are not one"
    data = result.data
    parts = {"dataset": data.dataset, "task": data.task, "split": result.key.split, "feature": result.key.feature_id}
    for what, text in parts.items():
        if not re.fullmatch(NAME, text):
            return f"{text[:40]!r} is no name of a {what}"
    if any(".." in place.split("/") for place in result.files.values()):
        return "it names files outside its folder"
    if not result.protocols:
        return "it has numbers of no protocol"
    if not data.classes or len(set(data.classes)) < len(data.classes):
        return "its classes are none, or one has two of them"
    if not all(finite(part) for part in (result.protocols, result.timing, data)):
        return "a number in it is not finite"
    counts = [result.key.fold, result.test_reads, data.recordings, data.recordings_listed, data.test_patients]
    if min([*counts, *result.timing.values()]) < 0:
        return "a count or a time in it is negative"
    for protocol, found in result.protocols.items():
        if found.test.n != data.test:
            tested = counted(found.test.n, "cycle")
            return f"protocol '{protocol}' was tested on {tested}, and the test side has {data.test}"
        for side, metrics in (("test", found.test), ("validation", found.validation)):
            problem = metrics and _confusion_fault(metrics, data)
            if metrics and side == "validation":  # a test side's numbers are held against its predictions
                problem = problem or numbers_fault(metrics)
            if problem:
                return f"protocol '{protocol}', {side} side: {problem}"
    return _config_fault(result)


def _config_fault(result: FoldResult) -> str | None:
    """A config that cannot be described, or is another than the one that the result's key names."""
    try:
        parameters = result.model["parameters"]
        if not isinstance(parameters, int) or isinstance(parameters, bool) or parameters < 0:
            raise ValueError(f"{str(parameters)[:40]!r} parameters")
        for part, tag in TAGS.items():
            if not isinstance(name := result.config.get(part, {}).get(tag, ""), str):
                raise ValueError(f"{part}.{tag} is {str(name)[:40]!r}")
        describe_model(result.config, parameters)
        describe_objective(result.config)
        pretraining(result.config)
        result.config.get("training", {}).get("watch_test")
    except Exception as error:  # whatever the config holds in a part's place
        return f"its config is not of this version ({type(error).__name__}: {error})"
    if result.key.semantics != VERSION:  # defaults may have changed since, and with them what a hash is of
        return None
    try:
        config = ExperimentConfig.parse(result.config)
        same_packages = config.packages == result.model.get("packages", {})
    except UserError as error:  # settings may have gone since, and choices: another type is another matter
        found = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
        wrong = [".".join(map(str, one["loc"])) for one in found if _of_another_type(dict(one))]
        return f"its config holds something else at {wrong[0]}" if wrong else None
    same_terms = same_packages and config.feature.feature_id == result.key.feature_id
    if same_terms and config.config_hash != result.key.config_hash:
        return f"its config is not the one that it is named by: its hash is {config.config_hash}"
    if (config.dataset, config.task) != (result.data.dataset, result.data.task):
        return f"its data are of {result.data.dataset} {result.data.task}, its config is not"
    if config.compat != result.compat:
        return "the copied defects that it names are not those of its config"
    return None


def _of_another_type(error: Mapping[str, Any]) -> bool:
    """Whether a config's fault is no setting or choice that another version had."""
    if error["type"] == "literal_error":
        return isinstance(error["input"], dict | list)
    return error["type"].endswith(("_type", "_parsing")) or error["type"] == "union_tag_not_found"


def _confusion_fault(metrics: Metrics, data: DataSummary) -> str | None:
    classes, confusion = len(data.classes), metrics.confusion
    if len(confusion) != classes or any(len(row) != classes for row in confusion) or len(metrics.recall) != classes:
        return f"its confusion matrix is not of {counted(classes, 'class', 'classes')}"
    if min(map(min, confusion)) < 0 or sum(map(sum, confusion)) != metrics.n or not metrics.n:
        return f"its confusion matrix does not count {counted(metrics.n, 'cycle')}"
    return None


def numbers_fault(metrics: Metrics) -> str | None:
    """The first stored number that the stored confusion matrix does not give; None where all agree."""
    given = metrics_of(np.array(metrics.confusion), metrics.auroc)
    pairs = zip(_numbers(metrics.model_dump()), _numbers(given.model_dump()), strict=True)
    for (name, stored), (_, found) in pairs:
        if (stored is None) != (found is None) or (stored is not None and not abs(stored - found) <= TOLERANCE):
            return f"stored {name} {stored} is {found} by its confusion matrix"
    return None


def _numbers(dump: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in dump.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}.")
        elif key == "recall":
            found += [(f"recall of class {index}", one) for index, one in enumerate(value)]
        elif key != "confusion":
            found.append((prefix + key, value))
    return found


def finite(value: Any) -> bool:
    """Whether every number in a record is finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, BaseModel):
        return all(finite(item) for _, item in value)
    if isinstance(value, Mapping):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, list) else True


def apart_from_most(runs: Sequence[Run]) -> dict[str, str]:
    """Results that name other patients on both sides of their split than most results of the same fold do.

    Returns:
        Name of the result -> what is wrong. Where no more than half of a fold's results agree, none is called wrong.
    """
    by_fold: dict[Any, list[Run]] = {}
    for run in runs:
        by_fold.setdefault((run.cohort, run.key.fold), []).append(run)
    found: dict[str, str] = {}
    for same in by_fold.values():
        usual, count = Counter(run.both_sides for run in same).most_common(1)[0]
        if 2 * count > len(same):
            what = "names other patients on both sides of its split than most results of the same fold"
            found |= {run.hash: what for run in same if run.both_sides != usual}
    return found
