"""Files of the store as they are read: parsed, and held to what `feature_store.build` writes."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feature_store.errors import UserError
from feature_store.metrics import Metric

BUILD_AGAIN = "run `lungtune features build` again: it writes this file again and computes only what is missing"
CYCLES = pa.schema(
    [
        ("cycle_id", pa.string()),
        ("recording", pa.string()),
        ("patient", pa.string()),
        ("device", pa.string()),
        ("location", pa.string()),
        ("mode", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("audio_hash", pa.string()),
        ("annotation_hash", pa.string()),
    ]
)
"""Of cycles.parquet, beside one nullable int8 column per task."""
KNOWN = frozenset({"device", "location", "mode"})  # may be null: no corpus has to know them

Model = TypeVar("Model", bound=BaseModel)


class Described(BaseModel):
    """What dataset.json must hold; more is allowed."""

    model_config = ConfigDict(strict=True, extra="allow")

    name: str
    classes: dict[str, list[str]] = Field(min_length=1)
    metrics: dict[str, Metric] = {}
    recordings: int = Field(ge=0)
    recordings_listed: int = Field(ge=0)
    cycles: int = Field(ge=0)
    synthetic: bool = False


def parse_json(data: bytes, where: str, hint: str = BUILD_AGAIN) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: it is none.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        what = f"is damaged: {len(data):,} bytes that are not JSON" if data else "is damaged: it is empty"
        raise UserError(what, where=where, hint=hint) from error
    if not isinstance(content, dict):
        raise UserError("is damaged: it is not a JSON object", where=where, hint=hint)
    return content


def check_model(model: type[Model], content: dict[str, Any], where: str, hint: str = BUILD_AGAIN) -> Model:
    """The content as a model, no value of it converted.

    Raises:
        UserError: a key is missing or has a value of another kind; the first one is named.
    """
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"is damaged: {place}: {first['msg']}", where=where, hint=hint) from error


def parse_table(
    data: bytes, where: str, schema: pa.Schema, *, nullable: Collection[str] = (), hint: str = BUILD_AGAIN
) -> pa.Table:
    """A Parquet file with at least the columns of a schema, in its types; other columns are as they are.

    Args:
        data: the file.
        where: for errors.
        schema: columns it must have.
        nullable: columns of the schema that may hold nulls.
        hint: what helps.

    Raises:
        UserError: it is no whole Parquet file, a column is missing, of another type, or holds a null.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # a damaged header is an OSError
        what = (
            f"is damaged: {len(data):,} bytes that are not a whole Parquet file" if data else "is damaged: it is empty"
        )
        raise UserError(what, where=where, hint=hint) from error
    for field in schema:
        if table.column_names.count(field.name) != 1:
            raise UserError(f"is damaged: it has no column '{field.name}'", where=where, hint=hint)
        index = table.column_names.index(field.name)
        column = table.column(index)
        if column.null_count and field.name not in nullable:
            raise UserError(f"is damaged: column '{field.name}' has empty cells", where=where, hint=hint)
        try:
            table = table.set_column(index, field.name, column.cast(field.type))
        except pa.ArrowException as error:
            what = f"is damaged: column '{field.name}' holds {column.type}, not {field.type}"
            raise UserError(what, where=where, hint=hint) from error
    return table


def parse_cycles(data: bytes, where: str, classes: dict[str, list[str]]) -> pa.Table:
    """cycles.parquet of a dataset with these classes per task.

    Raises:
        UserError: it is damaged, a cycle is in it twice, or a label is none of its task's classes.
    """
    tasks = pa.schema([(task, pa.int8()) for task in classes])
    schema = pa.schema([*CYCLES, *tasks])
    table = parse_table(data, where, schema, nullable={*KNOWN, *classes})
    if len(table) != len(table["cycle_id"].unique()):
        raise UserError("is damaged: a cycle is in it twice", where=where, hint=BUILD_AGAIN)
    for task, names in classes.items():
        outside = [
            label for label in table[task].unique().to_pylist() if label is not None and not 0 <= label < len(names)
        ]
        if outside:
            what = f"is damaged: label {outside[0]} of task '{task}' is none of its {len(names)} classes"
            raise UserError(what, where=where, hint=BUILD_AGAIN)
    return table


def check_sides(table: pa.Table, where: str) -> None:
    """
    Raises:
        UserError: a cycle is on both sides of a fold, or twice on one.
    """
    counts = table.group_by(["cycle_id", "fold"]).aggregate([("side", "count")])
    for cycle_id, fold, count in zip(
        *(counts[name].to_pylist() for name in ("cycle_id", "fold", "side_count")), strict=True
    ):
        if count > 1:
            what = f"is damaged: cycle {cycle_id} is {count} times in fold {fold}"
            raise UserError(what, where=where, hint=BUILD_AGAIN)
