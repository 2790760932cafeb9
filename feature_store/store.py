"""The feature store: cycles, splits and features of every corpus, in a folder or on S3."""

from __future__ import annotations

import functools
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import UserError, nearest
from feature_store.feature_cache import PARTIAL, SCALARS, hold
from feature_store.features import NAMED, Spec
from feature_store.manifest import VERSION as MANIFEST_VERSION
from feature_store.manifest import Manifest, recording_key
from feature_store.metrics import USUAL, Metric
from feature_store.parts import read_table, scalars_of, values_of
from feature_store.splits import SplitTable, inner_folds
from feature_store.storage import Storage, open_storage

VERSION = 1
MARK = "store.json"
EVENTS = pa.schema([("recording", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("kind", pa.string())])
INNER = re.compile(r"^(?P<outer>.+)-inner(?P<folds>\d+)$")


@functools.lru_cache(maxsize=8)
def _inner_folds(cycles: bytes, outer: bytes, name: str, task: str, k: int) -> SplitTable:
    """Balancing the folds takes a quarter of a second: once a process and content, not once a fold run."""
    split = SplitTable(name, pq.read_table(io.BytesIO(outer)))
    return inner_folds(pq.read_table(io.BytesIO(cycles)), split, task, k=k)


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
            content = json.loads(storage.read(MARK))
        except FileNotFoundError:
            if not create:
                hint = "build one: lungtune features build --dataset icbhi --root DIR"
                raise UserError("there is no feature store here", where=uri, hint=hint) from None
            content = {"version": VERSION}
            storage.write(MARK, json.dumps(content).encode())
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError("is not a feature store's mark", where=storage.uri(MARK)) from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise UserError(
                f"the feature store has version {version}, this lungtune reads version {VERSION}",
                where=storage.uri(MARK),
                hint="use the lungtune that built it, or build another store",
            )
        return cls(storage, uri)

    # --- corpora ---

    def datasets(self) -> list[str]:
        """Names of the datasets that have been built."""
        return sorted({key.split("/")[0] for key in self.storage.list("") if key.endswith("/dataset.json")})

    def dataset(self, name: str) -> dict[str, Any]:
        """What a dataset is: classes and metric by task, recordings at hand and listed, whether it is synthetic.

        Raises:
            UserError: it has not been built.
        """
        try:
            return json.loads(self.storage.read(f"{name}/dataset.json"))
        except FileNotFoundError:
            known = self.datasets()
            hint = nearest(name, known) if known else "it is empty: run `lungtune features build`"
            raise UserError(f"the store has no dataset '{name}'", where=self.uri, hint=hint) from None

    def metric(self, dataset: str, task: str) -> Metric:
        """What a task's published results are ranked by."""
        return self.dataset(dataset).get("metrics", {}).get(task, USUAL)  # a store built before metrics were kept

    def cycles(self, dataset: str) -> pa.Table:
        """One row a cycle, sorted as the corpus is: who, where, when, labels, hashes of audio and annotation."""
        self.dataset(dataset)
        return pq.read_table(io.BytesIO(self.storage.read(f"{dataset}/cycles.parquet")))

    def events(self, dataset: str) -> pa.Table:
        """Annotated sounds within recordings: recording, start and end in seconds, kind; empty where there are none."""
        self.dataset(dataset)
        try:
            return pq.read_table(io.BytesIO(self.storage.read(f"{dataset}/events.parquet")))
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
            UserError: there is none of that name.
        """
        self.dataset(dataset)
        try:
            return SplitTable(name, pq.read_table(io.BytesIO(self.storage.read(f"{dataset}/splits/{name}.parquet"))))
        except FileNotFoundError:
            inner = INNER.match(name)
            known = self.splits(dataset)
            if inner and inner["outer"] in known:
                outer = self.storage.read(f"{dataset}/splits/{inner['outer']}.parquet")
                cycles = self.storage.read(f"{dataset}/cycles.parquet")
                return _inner_folds(cycles, outer, inner["outer"], task, int(inner["folds"]))
            hint = nearest(name, [*known, *(f"{split}-inner5" for split in known)])
            raise UserError(f"dataset '{dataset}' has no split '{name}'", hint=hint) from None

    # --- features ---

    def manifests(self, dataset: str) -> list[Manifest]:
        """All built features of a dataset."""
        self.dataset(dataset)
        keys = [key for key in self.storage.list(f"{dataset}/features") if key.endswith("/manifest.json")]
        return [self._read_manifest(key) for key in keys]

    def manifest(self, dataset: str, feature: Spec | str) -> Manifest:
        """The manifest of a feature, by its spec, its id, or its short name.

        Raises:
            UserError: the feature has not been built; the message says how to.
        """
        spec = NAMED.get(feature, feature) if isinstance(feature, str) else feature
        name = spec if isinstance(spec, str) else spec.feature_id
        self.dataset(dataset)
        try:
            return self._read_manifest(f"{dataset}/features/{name}/manifest.json")
        except FileNotFoundError:
            built = ", ".join(manifest.feature_id for manifest in self.manifests(dataset)) or "none"
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

    def verify(self, dataset: str, feature_id: str) -> list[str]:
        """Read every part again; returns what is wrong, in words."""
        manifest = self.manifest(dataset, feature_id)
        folder = f"{dataset}/features/{feature_id}"
        problems = []
        seen: list[str] = []
        for part in manifest.parts:
            try:
                table = read_table(self.storage, folder, part)
            except FileNotFoundError:
                problems.append(f"{folder}/{part.file}: missing")
                continue
            except UserError as error:
                problems.append(str(error))
                continue
            if len(table) != part.rows:
                problems.append(f"{folder}/{part.file}: {len(table)} rows instead of {part.rows}")
            seen += table["cycle_id"].to_pylist()
        doubled = len(seen) - len(set(seen))
        if doubled:
            problems.append(f"{folder}: {doubled} cycles stand twice")
        cycles = self.cycles(dataset)
        if lost := len(set(seen) - set(cycles["cycle_id"].to_pylist())):
            problems.append(f"{folder}: {lost} cycles are not in cycles.parquet")
        if lacking := sorted(set(cycles["recording"].to_pylist()) - manifest.recordings.keys()):
            problems.append(
                f"feature {feature_id} is incomplete: {len(lacking)} recordings of the dataset are not in it, "
                f"the first is {lacking[0]} (run `lungtune features build` for it again)"
            )
        try:
            self._check_fresh(dataset, manifest)
        except UserError as error:
            problems.append(str(error))
        return problems

    # --- within ---

    def _read_manifest(self, key: str) -> Manifest:
        content = json.loads(self.storage.read(key))
        if content.get("version") != MANIFEST_VERSION:
            raise UserError(
                f"has version {content.get('version')}, this lungtune reads version {MANIFEST_VERSION}",
                where=self.storage.uri(key),
                hint="build the feature again",
            )
        return Manifest.model_validate(content)

    def _map(self, dataset: str, manifest: Manifest, folder: Path) -> Features:
        self._check_fresh(dataset, manifest)
        path = folder / f"{manifest.feature_id}-{manifest.content_hash}.npy"
        hold(path, lambda: self._write_array(dataset, manifest, path))
        ids = json.loads(path.with_suffix(".json").read_text())
        scalars = np.load(path.with_suffix(SCALARS), mmap_mode="r") if manifest.scalars else None
        return Features(ids, np.load(path, mmap_mode="r"), manifest.content_hash, scalars)

    def _write_array(self, dataset: str, manifest: Manifest, path: Path) -> None:
        """Lay a feature out as one file in the order of its cycle ids, scalars in another; the values appear last."""
        folder = f"{dataset}/features/{manifest.feature_id}"
        temporary = path.with_suffix(PARTIAL)
        array = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=manifest.dtype, shape=(manifest.rows, *manifest.shape)
        )
        scalars = np.empty((manifest.rows, manifest.scalars), np.float32)
        ids = [""] * manifest.rows
        place: dict[str, int] = {}  # of a recording's next row
        row = 0
        for name in sorted(manifest.recordings, key=lambda name: f"{name}#"):  # as its cycle ids sort
            place[name], row = row, row + manifest.recordings[name].rows
        for part in manifest.parts:
            table = read_table(self.storage, folder, part)
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

    def _check_fresh(self, dataset: str, manifest: Manifest) -> None:
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
