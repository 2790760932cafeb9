"""The feature store: cycles, splits and features of every corpus, in a folder or on S3."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from feature_store.disk import disk_errors
from feature_store.errors import UserError, nearest
from feature_store.feature_cache import PARTIAL, SCALARS, hold, new_array
from feature_store.features import NAMED, Spec
from feature_store.manifest import VERSION as MANIFEST_VERSION
from feature_store.manifest import Manifest, recording_key
from feature_store.metrics import USUAL, Metric
from feature_store.part_files import read_table, scalars_of, values_of
from feature_store.splits import SCHEMA, SplitTable, inner_folds
from feature_store.storage import Storage, open_storage
from feature_store.stored import (
    BUILD_AGAIN,
    CYCLES,
    KNOWN,
    Described,
    check_model,
    check_sides,
    parse_cycles,
    parse_json,
    parse_table,
)

VERSION = 1
MARK = "store.json"
EVENTS = pa.schema([("recording", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("kind", pa.string())])
INNER = re.compile(r"^(?P<outer>.+)-inner(?P<folds>\d+)$")


@functools.lru_cache(maxsize=8)
def _inner_folds(cycles: _Content, outer: _Content, name: str, task: str, k: int) -> SplitTable:
    """Balancing the folds takes a quarter of a second: once per process and content, not once per fold run."""
    known = parse_table(*cycles, CYCLES, nullable=KNOWN)
    return inner_folds(known, _split(outer, name, known["cycle_id"].to_pylist()), task, k=k)


class _Content(NamedTuple):
    """A file of the store."""

    data: bytes
    where: str


def _split(content: _Content, name: str, cycle_ids: Collection[str]) -> SplitTable:
    """
    Raises:
        UserError: the file is damaged, or names a cycle that is none of these.
    """
    try:
        split = SplitTable(name, parse_table(*content, SCHEMA))
    except UserError as error:
        raise UserError(error.what, where=content.where, hint=BUILD_AGAIN) from error
    check_sides(split.table, content.where)
    if unknown := set(split.table["cycle_id"].to_pylist()) - set(cycle_ids):
        what = f"does not fit cycles.parquet: {len(unknown)} of its cycles are not there, for one {min(unknown)}"
        raise UserError(what, where=content.where, hint=BUILD_AGAIN)
    return split


@dataclass(frozen=True)
class Features:
    """A feature in memory.

    Attributes:
        cycle_ids: sorted, one a row.
        values: ``[cycles, *shape]``, read-only; all processes of a node map the same bytes.
        content_hash: of what it was computed from.
        scalars: ``[cycles, scalars]`` float32, read-only and mapped too; None where the feature has none.
    """

    cycle_ids: list[str]
    values: np.ndarray
    content_hash: str
    scalars: np.ndarray | None = None


class FeatureStore:
    """Reads a store. `feature_store.build` writes it."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.storage, self.uri = storage, uri

    @classmethod
    def open(cls, uri: str, create: bool = False) -> FeatureStore:
        """Open the store at a folder or ``s3://bucket/prefix``.

        Raises:
            UserError: there is none (and `create` is not set), or it is of another version.
        """
        storage = open_storage(uri)
        try:
            content = json.loads(_read(storage, MARK).data)
        except FileNotFoundError:
            if not create:
                hint = "build one: lungtune features build --dataset icbhi --root DIR"
                raise UserError("there is no feature store here", where=uri, hint=hint) from None
            content = {"version": VERSION}
            with disk_errors(uri, "name another folder in LUNGTUNE_STORE or by --store, or free some space"):
                storage.write(MARK, json.dumps(content).encode())
        except (ValueError, RecursionError) as error:
            raise UserError("is not a feature store's mark", where=storage.uri(MARK)) from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise UserError(
                f"the feature store has version {version}, this lungtune reads version {VERSION}",
                where=storage.uri(MARK),
                hint="use the lungtune that built it, or build another store",
            )
        return cls(storage, uri)

    @staticmethod
    def is_there(uri: str) -> bool:
        """Whether there is a store at a folder or ``s3://bucket/prefix``, sound or not."""
        return open_storage(uri).exists(MARK)

    # --- corpora ---

    def datasets(self) -> list[str]:
        """Names of the datasets that have been built."""
        return sorted({key.split("/")[0] for key in self.storage.list("") if key.endswith("/dataset.json")})

    def dataset(self, name: str) -> dict[str, Any]:
        """What a dataset is: classes and metric by task, recordings at hand and listed, whether it is synthetic.

        Raises:
            UserError: it has not been built, or its description is damaged.
        """
        try:
            content = _read(self.storage, f"{name}/dataset.json")
        except FileNotFoundError:
            known = self.datasets()
            hint = nearest(name, known) if known else "it is empty: run `lungtune features build`"
            raise UserError(f"the store has no dataset '{name}'", where=self.uri, hint=hint) from None
        about = parse_json(content.data, content.where)
        check_model(Described, about, content.where)
        return about

    def metric(self, dataset: str, task: str) -> Metric:
        """What a task's published results are ranked by."""
        return self.dataset(dataset).get("metrics", {}).get(task, USUAL)  # a store built before metrics were kept

    def cycles(self, dataset: str) -> pa.Table:
        """One row a cycle, sorted as the corpus is: who, where, when, labels, hashes of audio and annotation.

        Raises:
            UserError: the dataset has not been built, or the file is damaged or gone.
        """
        classes = self.dataset(dataset)["classes"]
        return parse_cycles(*self._there(f"{dataset}/cycles.parquet"), classes)

    def events(self, dataset: str) -> pa.Table:
        """Annotated sounds within recordings: recording, start and end in seconds, kind; empty where there are none."""
        self.dataset(dataset)
        try:
            return parse_table(*_read(self.storage, f"{dataset}/events.parquet"), EVENTS)
        except FileNotFoundError:  # built before events were kept
            return EVENTS.empty_table()

    def splits(self, dataset: str) -> list[str]:
        """Names of the stored splits; ``<name>-inner<k>`` is made of any of them."""
        self.dataset(dataset)
        keys = self.storage.list(f"{dataset}/splits")
        return [Path(key).stem for key in keys if key.endswith(".parquet")]

    def split(self, dataset: str, name: str, task: str) -> SplitTable:
        """A stored split, or k patient-grouped folds inside the training side of one (``official-inner5``).

        Raises:
            UserError: there is none of that name, it is damaged, or it does not fit the cycles.
        """
        self.dataset(dataset)
        try:
            content = _read(self.storage, f"{dataset}/splits/{name}.parquet")
        except FileNotFoundError:
            inner = INNER.match(name)
            known = self.splits(dataset)
            if inner and inner["outer"] in known:
                outer = self._there(f"{dataset}/splits/{inner['outer']}.parquet")
                cycles = self._there(f"{dataset}/cycles.parquet")
                return _inner_folds(cycles, outer, inner["outer"], task, int(inner["folds"]))
            hint = nearest(name, [*known, *(f"{split}-inner5" for split in known)])
            raise UserError(f"dataset '{dataset}' has no split '{name}'", hint=hint) from None
        return _split(content, name, self.cycles(dataset)["cycle_id"].to_pylist())

    # --- features ---

    def feature_ids(self, dataset: str) -> list[str]:
        """Ids of all built features of a dataset, whether their manifests can be read or not."""
        keys = [key for key in self.storage.list(f"{dataset}/features") if key.endswith("/manifest.json")]
        return [key.split("/")[-2] for key in keys]

    def manifests(self, dataset: str) -> list[Manifest]:
        """All built features of a dataset.

        Raises:
            UserError: a manifest is damaged.
        """
        self.dataset(dataset)
        return [self.read_manifest(dataset, feature_id) for feature_id in self.feature_ids(dataset)]

    def manifest(self, dataset: str, feature: Spec | str) -> Manifest:
        """The manifest of a feature, by its spec, its id, or its short name.

        Raises:
            UserError: the feature has not been built, and the message says how to, or its manifest is damaged.
        """
        spec = NAMED.get(feature, feature) if isinstance(feature, str) else feature
        name = spec if isinstance(spec, str) else spec.feature_id
        self.dataset(dataset)
        try:
            return self.read_manifest(dataset, name)
        except FileNotFoundError:
            built = ", ".join(self.feature_ids(dataset)) or "none"
            raise UserError(
                f"the store has no feature {name} of dataset '{dataset}'",
                where=self.uri,
                hint=f"run `lungtune features build --dataset {dataset} --feature ...` for it; built: {built}",
            ) from None

    def load(self, dataset: str, feature_id: str, cache: Path) -> Features:
        """Map a feature: the first caller on a node lays it out in the cache, all others map the same bytes.

        Raises:
            UserError: it has not been built, a part of it is damaged or gone, or a recording has changed since.
        """
        manifest = self.manifest(dataset, feature_id)
        while True:
            try:
                return self._map(dataset, manifest, cache / "features")
            except FileNotFoundError as error:
                before, manifest = manifest, self.manifest(dataset, feature_id)
                if manifest == before:  # else rebuilt in between: its parts are others now
                    hint = "run `lungtune features build` for it again"
                    raise UserError("a part of the feature is missing", where=str(error), hint=hint) from error

    def read_manifest(self, dataset: str, feature_id: str) -> Manifest:
        """A feature's manifest alone: nothing else of the dataset is read.

        Raises:
            FileNotFoundError: there is none.
            UserError: it is damaged, or of another version.
        """
        data, where = _read(self.storage, f"{dataset}/features/{feature_id}/manifest.json")
        hint = "delete the file, then run `lungtune features build` for the feature: it is computed again"
        content = parse_json(data, where, hint)
        if content.get("version") != MANIFEST_VERSION:
            what = f"has version {content.get('version')}, this lungtune reads version {MANIFEST_VERSION}"
            raise UserError(what, where=where, hint="build the feature again")
        manifest = check_model(Manifest, content, where, hint)
        if manifest.feature_id != feature_id:
            raise UserError(f"is damaged: it is that of feature {manifest.feature_id}", where=where, hint=hint)
        return manifest

    # --- within ---

    def _there(self, key: str) -> _Content:
        """A file that a built dataset has."""
        try:
            return _read(self.storage, key)
        except FileNotFoundError:
            raise UserError("is missing", where=self.storage.uri(key), hint=BUILD_AGAIN) from None

    def _map(self, dataset: str, manifest: Manifest, folder: Path) -> Features:
        self.check_fresh(dataset, manifest)
        path = folder / f"{manifest.feature_id}-{manifest.content_hash}.npy"
        hold(path, lambda: self._write_array(dataset, manifest, path))
        ids = json.loads(path.with_suffix(".json").read_text())
        scalars = np.load(path.with_suffix(SCALARS), mmap_mode="r") if manifest.scalars else None
        return Features(ids, np.load(path, mmap_mode="r"), manifest.content_hash, scalars)

    def _write_array(self, dataset: str, manifest: Manifest, path: Path) -> None:
        """Lay a feature out as one file in the order of its cycle ids, scalars in another; the values appear last."""
        folder = f"{dataset}/features/{manifest.feature_id}"
        temporary = path.with_suffix(PARTIAL)
        array = new_array(temporary, manifest.dtype, (manifest.rows, *manifest.shape))
        scalars = np.empty((manifest.rows, manifest.scalars), np.float32)
        ids = [""] * manifest.rows
        place: dict[str, int] = {}  # of a recording's next row
        row = 0
        for name in sorted(manifest.recordings, key=lambda name: f"{name}#"):  # as its cycle ids sort
            place[name], row = row, row + manifest.recordings[name].rows
        for part in manifest.parts:
            table = read_table(self.storage, folder, part, manifest)
            part_ids = table["cycle_id"].to_pylist()
            rows = []
            for name in (cycle_id.rsplit("#", 1)[0] for cycle_id in part_ids):
                rows.append(place[name])
                place[name] += 1
            array[rows] = values_of(table, manifest.shape)
            if manifest.scalars:
                scalars[rows] = scalars_of(table)
            for row, cycle_id in zip(rows, part_ids, strict=True):
                ids[row] = cycle_id
        array.flush()
        del array
        if manifest.scalars:
            np.save(path.with_suffix(SCALARS), scalars)
        path.with_suffix(".json").write_text(json.dumps(ids))
        temporary.chmod(0o444)
        temporary.replace(path)

    def check_fresh(self, dataset: str, manifest: Manifest) -> None:
        """Refuse a feature of which a recording's audio or annotation has been replaced since it was computed."""
        cycles = self.cycles(dataset).select(["recording", "audio_hash", "annotation_hash"])
        rows = zip(*(column.to_pylist() for column in cycles.columns), strict=True)
        now = {name: recording_key(audio, annotation, manifest.feature_id) for name, audio, annotation in rows}
        changed = [name for name, entry in manifest.recordings.items() if now.get(name, entry.key) != entry.key]
        if changed:
            raise UserError(
                f"feature {manifest.feature_id} is out of date: {len(changed)} recordings have changed, "
                f"the first is {changed[0]}",
                where=self.uri,
                hint="run `lungtune features build` for it again",
            )


def _read(storage: Storage, key: str) -> _Content:
    """
    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read.
    """
    try:
        return _Content(storage.read(key), storage.uri(key))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=storage.uri(key)) from error
