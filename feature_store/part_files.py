"""Parts of a feature as Parquet: `cycle_id`, `values`, and `scalars` if it has any; pandas and DuckDB read it, too."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import UserError
from feature_store.manifest import Manifest, Part
from feature_store.storage import Storage
from feature_store.stored import parse_table

DELETE = "delete the file, then run `lungtune features build` again: it computes only what is missing"


def write_part(
    storage: Storage, folder: str, cycle_ids: list[str], values: np.ndarray, scalars: np.ndarray | None = None
) -> Part:
    """Store rows under a name that is their content's hash.

    Args:
        storage: the store's.
        folder: of the feature.
        cycle_ids: ``[rows]``.
        values: ``[rows, *shape]`` float32 or float16.
        scalars: ``[rows, scalars]`` float32, of a feature that has them.
    """
    table = pa.table({"cycle_id": cycle_ids, "values": _lists(values)})
    if scalars is not None:
        table = table.append_column("scalars", _lists(scalars))
    described = {"shape": json.dumps(values.shape[1:]), "dtype": str(values.dtype)}
    return _write(storage, folder, table.replace_schema_metadata(described))


def keep_rows(storage: Storage, folder: str, part: Part, recordings: Collection[str]) -> Part:
    """A new part with the rows of some recordings of a part."""
    table = read_table(storage, folder, part)
    kept = [cycle_id.rsplit("#", 1)[0] in recordings for cycle_id in table["cycle_id"].to_pylist()]
    return _write(storage, folder, table.filter(pa.array(kept)))


def read_table(storage: Storage, folder: str, part: Part, manifest: Manifest | None = None) -> pa.Table:
    """A part's rows, its content checked; with a manifest, that its values are of the manifest's shape and type.

    Raises:
        FileNotFoundError: it is gone, as after a rebuild.
        UserError: its content is not what was written.
    """
    key = f"{folder}/{part.file}"
    data = storage.read(key)
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise UserError(
            "is damaged: its content is not what was written",
            where=storage.uri(key),
            hint=DELETE,
        )
    columns = [("cycle_id", pa.string())]
    if manifest:
        columns.append(("values", _list_type(manifest.dtype, math.prod(manifest.shape))))
        if manifest.scalars:
            columns.append(("scalars", _list_type("float32", manifest.scalars)))
    table = parse_table(data, storage.uri(key), pa.schema(columns), hint=DELETE)
    if len(table) != part.rows:
        what = f"is damaged: {len(table)} rows, and the manifest says {part.rows}"
        raise UserError(what, where=storage.uri(key), hint=DELETE)
    return table


def values_of(table: pa.Table, shape: list[int]) -> np.ndarray:
    """The rows' values, ``[rows, *shape]``."""
    column = table["values"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), *shape)


def scalars_of(table: pa.Table) -> np.ndarray:
    """The rows' scalars, ``[rows, scalars]``."""
    column = table["scalars"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)


def _list_type(dtype: str, length: int) -> pa.DataType:
    return pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), length)


def _lists(rows: np.ndarray) -> pa.FixedSizeListArray:
    """``[rows, ...]`` as a column of lists of one size."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(rows.shape[1:])))


def _write(storage: Storage, folder: str, table: pa.Table) -> Part:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=["cycle_id"], write_statistics=["cycle_id"])
    data = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(data).hexdigest()
    part = Part(file=f"part-{digest[:16]}.parquet", rows=len(table), bytes=len(data), sha256=digest)
    storage.write(f"{folder}/{part.file}", data)
    return part
