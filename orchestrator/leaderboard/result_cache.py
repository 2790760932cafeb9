"""What a build has read of the results, kept for the next one: a result never changes, so it need not be read again.

One Parquet file a result store, ``<folder>/<digest of its place>.parquet``, replaced whole. It may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from feature_store.errors import UserError
from feature_store.storage import LocalStorage
from orchestrator.analysis.patient_counts import Tally, tally
from workers.predictions import check_side, read_predictions
from workers.results import PREDICTIONS, READERS, RESULT, DataSummary, FoldResult, ResultStore

VERSION = 4  # of what is kept: another one is read anew
COLUMNS = ("name", "stamp", "result", "tallies")


@dataclass
class _Item:
    """One result: its file's stamp, its JSON without the epochs, and its tallies' JSON once they were asked for."""

    stamp: str
    result: str
    tallies: str | None = None


class Kept:
    """Reads results and tallies, each once. Results of a folder are read anew where their file has changed."""

    def __init__(self, results: ResultStore, folder: Path | None = None) -> None:
        """
        Args:
            results: the truth.
            folder: where to keep what was read; None keeps nothing beyond this object.
        """
        self.results = results
        place = hashlib.sha256(results.storage.uri("").encode()).hexdigest()[:16]
        self._storage = LocalStorage(folder) if folder else None
        self._file = f"{place}.parquet"
        self._known = self._load()
        self._items: dict[str, _Item] = {}
        self._data: dict[str, DataSummary] = {}
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._failed: dict[str, UserError] = {}
        self._patients: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._changed = False

    def result(self, name: str) -> FoldResult | None:
        """A result without its epochs; None where it is not finished.

        Raises:
            UserError: it is there but cannot be read.
        """
        stamp, item = self._stamp(name), self._known.get(name)
        if item is not None and item.stamp == stamp:
            with contextlib.suppress(ValidationError):  # kept by another version: read anew
                found = FoldResult.model_validate_json(item.result)
                self._items[name], self._data[name] = item, found.data
                return found
        result = self.results.get(name)
        if result is None:
            return None
        result = result.model_copy(update={"epochs": []})
        self._data[name] = result.data
        if self._storage:
            self._items[name] = _Item(stamp, result.model_dump_json(by_alias=True))
            self._changed = True
        return result

    def read_ahead(self, names: Iterable[str]) -> None:
        """Read the predictions of results that were read, several at once."""

        def read(name: str) -> tuple[str, dict[str, Tally] | UserError]:
            try:
                return name, self._read_tallies(name)
            except UserError as error:
                return name, error
            except Exception as error:  # one result, whatever is in it, costs itself alone
                what = f"{PREDICTIONS} of result {name} cannot be used ({type(error).__name__}: {error})"
                return name, UserError(what)

        wanted = sorted(set(names) - self._tallies.keys() - self._failed.keys())
        with ThreadPoolExecutor(READERS) as pool:
            for name, found in pool.map(read, wanted):
                if isinstance(found, UserError):
                    self._failed[name] = found
                else:
                    self._tallies[name] = {key: self._shared(one) for key, one in found.items()}

    def tally(self, name: str, protocol: str) -> Tally:
        """The predictions of a result that was read, condensed to what its own metric needs.

        Raises:
            UserError: the result lacks its predictions, or those of this protocol.
        """
        if name not in self._tallies:
            self.read_ahead([name])
        if name in self._failed:
            raise self._failed[name]
        found = self._tallies[name].get(protocol)
        if found is None:
            raise UserError(f"result {name} has no predictions under protocol '{protocol}'")
        return found

    @property
    def failed(self) -> dict[str, UserError]:
        """The results whose predictions were asked for and cannot be used."""
        return self._failed

    def save(self) -> None:
        """Keep what was read; a folder that cannot be written costs the next build its time, nothing else."""
        if not self._storage or not self._changed:
            return
        rows = {"name": list(self._items)} | {
            column: [getattr(item, column) for item in self._items.values()] for column in COLUMNS[1:]
        }
        table = pa.table(rows, schema=pa.schema([(column, pa.string()) for column in COLUMNS]))
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"version": str(VERSION)}), sink, compression="zstd")
        try:
            self._storage.write(self._file, sink.getvalue())
        except OSError:
            return
        self._changed = False

    def _read_tallies(self, name: str) -> dict[str, Tally]:
        item = self._items.get(name)
        if item is not None and item.tallies is not None:
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # of another version: read anew
                return {protocol: Tally.of_dict(content) for protocol, content in json.loads(item.tallies).items()}
        data, found = self._data[name], {}
        for protocol, rows in read_predictions(self.results, name).items():
            check_side(rows, data, f"result {name[:12]}")
            found[protocol] = tally(rows, data.metric)
        if item is not None:
            item.tallies = json.dumps({protocol: one.to_dict() for protocol, one in found.items()})
            self._changed = True
        return found

    def _shared(self, one: Tally) -> Tally:
        """With the one list of patients that all runs on the same cycles share."""
        names = self._patients.setdefault(one.hits.patients, one.hits.patients)
        return replace(one, hits=replace(one.hits, patients=names))

    def _load(self) -> dict[str, _Item]:
        """What was kept; nothing where the file is missing, broken, or of another version."""
        if not self._storage:
            return {}
        try:
            table = pq.read_table(io.BytesIO(self._storage.read(self._file)))
        except (OSError, pa.ArrowException):
            return {}
        if (table.schema.metadata or {}).get(b"version") != str(VERSION).encode():
            return {}
        columns = [table[column].to_pylist() for column in COLUMNS]
        return {name: _Item(*rest) for name, *rest in zip(*columns, strict=True)}

    def _stamp(self, name: str) -> str:
        """Times and sizes of a result's files in a folder; empty on S3, where a result is put once and not replaced."""
        folder = self.results.storage.local_path(f"{name[:2]}/{name}") if self._storage else None
        return "" if folder is None else " ".join(_stamp_of(folder / file) for file in (RESULT, PREDICTIONS))


def _stamp_of(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_mtime_ns}-{found.st_size}"
