"""Read everything of a dataset in the store again and compare it with what was written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from feature_store.errors import UserError
from feature_store.manifest import Manifest
from feature_store.part_files import read_table
from feature_store.store import FeatureStore
from feature_store.stored import BUILD_AGAIN, parse_json


def verify_dataset(store: FeatureStore, dataset: str) -> list[str]:
    """What is wrong with a dataset's description, cycles, events and splits, in words.

    Raises:
        UserError: it has not been built.
    """
    if dataset not in store.datasets():
        store.dataset(dataset)  # says so
    problems: list[str] = []
    about = _noted(problems, lambda: store.dataset(dataset))
    if about is None:
        return problems  # nothing else can be held to it
    cycles = _noted(problems, lambda: store.cycles(dataset))
    if cycles is not None:
        if len(cycles) != about["cycles"]:
            problems.append(f"{dataset}/cycles.parquet: {len(cycles)} cycles, and dataset.json says {about['cycles']}")
        for name in store.splits(dataset):
            _noted(problems, partial(store.split, dataset, name, next(iter(about["classes"]))))
    _noted(problems, lambda: store.events(dataset))
    return problems


def verify_feature(store: FeatureStore, dataset: str, feature_id: str) -> list[str]:
    """What is wrong with a feature's manifest, spec and parts, and how they fit the dataset's cycles, in words.

    Raises:
        UserError: it has not been built.
    """
    problems: list[str] = []
    try:
        manifest = store.manifest(dataset, feature_id)
    except UserError as error:
        if feature_id not in store.feature_ids(dataset):
            raise
        return [str(error)]
    folder = f"{dataset}/features/{feature_id}"
    _noted(problems, lambda: _check_spec(store, folder, manifest))
    seen: list[str] = []
    for part in manifest.parts:
        try:
            seen += read_table(store.storage, folder, part, manifest)["cycle_id"].to_pylist()
        except FileNotFoundError:
            problems.append(f"{folder}/{part.file}: missing")
        except OSError as error:
            problems.append(f"{folder}/{part.file}: cannot be read: {error.strerror}")
        except UserError as error:
            problems.append(str(error))
    if doubled := len(seen) - len(set(seen)):
        problems.append(f"{folder}: {doubled} cycles are in it twice")
    cycles = _noted(problems, lambda: store.cycles(dataset))
    if cycles is None:
        return problems
    if lost := len(set(seen) - set(cycles["cycle_id"].to_pylist())):
        problems.append(f"{folder}: {lost} cycles are not in cycles.parquet")
    if lacking := sorted(set(cycles["recording"].to_pylist()) - manifest.recordings.keys()):
        problems.append(
            f"feature {feature_id} is incomplete: {len(lacking)} recordings of the dataset are not in it, "
            f"the first is {lacking[0]} (run `lungtune features build` for it again)"
        )
    _noted(problems, lambda: store.check_fresh(dataset, manifest))
    return problems


def _check_spec(store: FeatureStore, folder: str, manifest: Manifest) -> None:
    """
    Raises:
        UserError: spec.json is gone, damaged, or another spec than the manifest's.
    """
    key = f"{folder}/spec.json"
    where = store.storage.uri(key)
    try:
        spec = parse_json(store.storage.read(key), where)
    except OSError as error:
        raise UserError("is missing or cannot be read", where=where, hint=BUILD_AGAIN) from error
    if spec != manifest.spec:
        raise UserError("is damaged: the manifest has another spec", where=where, hint=BUILD_AGAIN)


def _noted(problems: list[str], read: Callable[[], Any]) -> Any:
    """What is read; None and one more problem where it cannot be."""
    try:
        return read()
    except UserError as error:
        problems.append(str(error))
        return None
