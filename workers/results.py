"""`FoldResult` and the result store: content-addressed, written once, the truth that everything else is built from."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feature_store.errors import UserError
from feature_store.metrics import USUAL, Metric
from feature_store.storage import LocalStorage, Storage, open_storage
from workers.evaluation import Metrics

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
RESULT, PREDICTIONS, WEIGHTS, LOG = "result.json", "predictions.parquet", "model.safetensors", "log.jsonl"
HONEST = ("validation", "last")
"""Ways to choose the epoch in which the test side has no part."""
PROTOCOLS = (*HONEST, "test_best")
READERS = 8
"""Results that are read at once: one by one, a network would take its time."""


class Record(BaseModel):
    """Base of the content of `result.json`; unknown keys of a newer version are kept out, not refused."""

    model_config = ConfigDict(extra="ignore")


class FoldKey(Record):
    """What makes a fold run itself: two runs with one key are one run.

    Attributes:
        semantics: version of the training's meaning (`workers.numbers_version.VERSION`).
        config_hash: `ExperimentConfig.config_hash`.
        data_hash: over the feature's content and the task's labels.
        feature_id: the feature's spec.
        split, split_hash, fold: the cycles trained and tested on.
        seed: of initialisation, data order, mixing and the held-out patients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    semantics: int
    config_hash: str
    data_hash: str
    feature_id: str
    split: str
    split_hash: str
    fold: int
    seed: int

    @property
    def hash(self) -> str:
        """40 hex digits: the name of the result."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:40]


class ProtocolResult(Record):
    """One way of choosing the epoch, and what the chosen weights did."""

    epoch: int
    guarded: bool = Field(default=True, description="false: none reached training.min_sensitivity; it is the last")
    test: Metrics
    validation: Metrics | None = None


class DataSummary(Record):
    """What was trained and tested on. Counts are cycles, unless named otherwise."""

    dataset: str
    task: str
    classes: list[str]
    metric: Metric = Field(default=USUAL, description="what the task's published results are ranked by")
    synthetic: bool
    recordings: int
    recordings_listed: int
    train: int
    validation: int
    test: int
    train_patients: int
    validation_patients: int
    test_patients: int
    train_class_counts: list[int]
    patients_on_both_sides: list[str]
    sounds_on_both_sides: list[str] = Field(
        default=[], description="tested recordings whose sound is trained on under another name"
    )
    sounds_in_doubt: list[str] = Field(
        default=[], description="recordings whose sound has another name, with another patient or other labels"
    )
    split_source: str = Field(default="", description="what must be known of the official split's list")


class Provenance(Record):
    """Where a number comes from."""

    lungtune: str
    git_commit: str
    python: str
    torch: str
    device: str
    hostname: str
    started: str
    finished: str
    command: str


class FoldResult(Record):
    """One training of one config on one fold with one seed."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    hash: str
    key: FoldKey
    config: dict[str, Any]
    compat: list[str] = Field(default=[], description="switched-on copies of a source system's defects")
    protocols: dict[str, ProtocolResult]
    epochs: list[dict[str, Any]]
    data: DataSummary
    model: dict[str, Any]
    provenance: Provenance
    timing: dict[str, float]
    memory: dict[str, int]
    test_reads: int = Field(description="how often the test side was read: 1, or once an epoch more if watched")
    files: dict[str, str] = Field(default_factory=dict, description="file name -> key inside the result's folder")

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    def to_json(self) -> bytes:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1).encode()


class ResultStore:
    """Results under ``<uri>/<aa>/<hash>/``; a result is there wholly or not at all."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def open(cls, uri: str) -> ResultStore:
        """A folder or ``s3://bucket/prefix``; it need not exist yet."""
        return cls(open_storage(uri))

    def __contains__(self, result_hash: str) -> bool:
        return self.storage.exists(self._key(result_hash, RESULT))

    def hashes(self) -> list[str]:
        """Names of all finished results, sorted."""
        return self.census()[0]

    def census(self) -> tuple[list[str], list[str]]:
        """Names of all finished results, and of folders of a result that lack its `result.json`, each sorted.

        On S3 a training that is under way has files below its attempt, and none of them makes it one of the latter.
        """
        keys = (key.split("/") for key in self.storage.list(""))
        of_results = [parts[1:] for parts in keys if len(parts) == 3 and len(parts[0]) == 2]
        finished = {name for name, file in of_results if file == RESULT}
        begun = {name for name, file in of_results if file in (PREDICTIONS, WEIGHTS, LOG)}
        return sorted(finished), sorted(begun - finished)

    def get(self, result_hash: str) -> FoldResult | None:
        """The result, or None where it has not been finished.

        Raises:
            UserError: it is there but cannot be read.
        """
        key = self._key(result_hash, RESULT)
        try:
            return FoldResult.model_validate_json(self.storage.read(key))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise UserError(
                f"is not a result of this version ({error.error_count()} problems)",
                where=self.storage.uri(key),
                hint="delete its folder to have the fold trained again",
            ) from error
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror or error}", where=self.storage.uri(key)) from error

    def find(self, prefix: str) -> FoldResult:
        """The one result whose hash begins with `prefix`.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [name for name in self.hashes() if name.startswith(prefix)]
        result = self.get(found[0]) if len(found) == 1 else None
        if result is None:
            what = f"{len(found)} results begin with" if found else "no result begins with"
            raise UserError(f"{what} '{prefix}'", where=self.storage.uri(""), hint="give more of its hash")
        return result

    def iterate(self) -> Iterator[FoldResult]:
        """Every result, in the order of their hashes."""
        for result_hash in self.hashes():
            result = self.get(result_hash)
            if result is not None:
                yield result

    def predictions(self, result_hash: str, side: str | None = "test") -> pa.Table:
        """Logits per cycle: cycle_id, patient, device, label, side, protocol, logits.

        Args:
            result_hash: a finished result.
            side: ``test``, or ``validation`` for the held-out patients of the training side; None for both.
        """
        return table_of_side(self.read(result_hash, PREDICTIONS), side)

    def read(self, result_hash: str, name: str) -> bytes:
        """A file of a finished result.

        Raises:
            UserError: the result or the file is not there.
        """
        result = self.get(result_hash)
        try:
            return self.storage.read(self._key(result_hash, (result.files if result else {}).get(name, name)))
        except FileNotFoundError as error:
            raise UserError(f"result {result_hash} has no {name}", where=self.storage.uri("")) from error
        except OSError as error:
            what = f"{name} of result {result_hash} cannot be read: {error.strerror or error}"
            raise UserError(what, where=self.storage.uri("")) from error

    def publish(self, result: FoldResult, files: Mapping[str, bytes]) -> bool:
        """Make a result visible, whole, once.

        Returns:
            False where the same fold run had been finished before; what was there stays.
        """
        if isinstance(self.storage, LocalStorage):
            return self._publish_folder(result, files)
        return self._publish_objects(result, files)

    def _publish_folder(self, result: FoldResult, files: Mapping[str, bytes]) -> bool:
        final = self.storage.local_path(self._key(result.hash, ""))
        assert final is not None
        temporary = final.parent / f".{result.hash}.{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            for name, content in {**files, RESULT: result.to_json()}.items():
                _write_through(temporary / name, content)
            temporary.rename(final)  # fails where a non-empty folder is
        except OSError:
            if result.hash in self:
                return False
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return True

    def _publish_objects(self, result: FoldResult, files: Mapping[str, bytes]) -> bool:
        attempt = uuid.uuid4().hex[:8]  # two attempts at one fold never mix their files
        placed = {name: f"{attempt}/{name}" for name in files}
        for name, content in files.items():
            self.storage.write(self._key(result.hash, placed[name]), content)
        whole = result.model_copy(update={"files": placed})
        return self.storage.write_if_absent(self._key(result.hash, RESULT), whole.to_json())

    @staticmethod
    def _key(result_hash: str, name: str) -> str:
        return f"{result_hash[:2]}/{result_hash}/{name}".rstrip("/")


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def table_of_side(content: bytes, side: str | None) -> pa.Table:
    """The rows of a file of predictions that are of one side, ``test`` or ``validation``; None for all rows."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    return table if side is None else table.filter(pc.equal(table["side"], side))
