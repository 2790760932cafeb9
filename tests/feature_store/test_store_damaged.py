"""A damaged file of a store is named, never a traceback; `verify` finds it, and the next build mends it."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.errors import UserError
from feature_store.store import FeatureStore
from feature_store.verify import verify_dataset, verify_feature
from tests.support.corpora import HALF, SPEC, rebuild

MANIFEST = f"icbhi/features/{SPEC.feature_id}/manifest.json"
FOREIGN = {"a": [1, 2]}


def parquet(columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns) if isinstance(columns, dict) else columns, sink)
    return sink.getvalue()


def column(data: bytes, name: str, change: Callable[[list], list] | None) -> bytes:
    """The table with a column dropped or its values replaced."""
    table = pq.read_table(io.BytesIO(data))
    index = table.column_names.index(name)
    if change is None:
        return parquet(table.remove_column(index))
    return parquet(table.set_column(index, name, pa.array(change(table[name].to_pylist()))))


def key(data: bytes, **values: Any) -> bytes:
    content = {**json.loads(data), **values}
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


ANY = [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\xff\xfe\x00", lambda data: b"[" * 100_000]
JSON = [*ANY, lambda data: b"[]", lambda data: b"null", lambda data: parquet(FOREIGN)]
TABLE = [*ANY, lambda data: data[:-100], lambda data: parquet(FOREIGN), lambda data: b"{}"]
DAMAGE: dict[str, list[Callable[[bytes], bytes]]] = {
    "icbhi/dataset.json": [
        *JSON,
        lambda data: key(data, classes=None),
        lambda data: key(data, classes={}),
        lambda data: key(data, classes={"lungsound4": 4}),
        lambda data: key(data, recordings_listed="920"),
        lambda data: key(data, metrics={"lungsound4": "auc"}),
    ],
    "icbhi/cycles.parquet": [
        *TABLE,
        *(
            lambda data, name=name: column(data, name, None)
            for name in ("cycle_id", "patient", "lungsound4", "audio_hash")
        ),
        lambda data: column(data, "cycle_id", lambda ids: [*ids[:-1], None]),
        lambda data: column(data, "cycle_id", lambda ids: [ids[1], *ids[1:]]),
        lambda data: column(data, "start", lambda starts: ["early"] * len(starts)),
        lambda data: column(data, "lungsound4", lambda labels: [4, *labels[1:]]),
    ],
    "icbhi/splits/official.parquet": [
        *TABLE,
        lambda data: column(data, "side", None),
        lambda data: column(data, "fold", lambda folds: ["first"] * len(folds)),
        lambda data: column(data, "side", lambda sides: ["val", *sides[1:]]),
        lambda data: column(data, "cycle_id", lambda ids: ["nobody#0", *ids[1:]]),
        lambda data: column(data, "cycle_id", lambda ids: [ids[1], *ids[1:]]),
    ],
    MANIFEST: [
        *JSON,
        lambda data: key(data, parts=None),
        lambda data: key(data, parts=[]),
        lambda data: key(data, shape=[0, 32]),
        lambda data: key(data, shape="50x32"),
        lambda data: key(data, dtype="object"),
        lambda data: key(data, recordings={"a": 1}),
        lambda data: key(data, feature_id="fbank-0"),
        lambda data: key(data, parts=[{**json.loads(data)["parts"][0], "file": "../../../x"}]),
    ],
}


@pytest.mark.parametrize(("file", "index"), [(file, i) for file, ways in DAMAGE.items() for i in range(len(ways))])
def test_a_damaged_file_is_named_and_verified(store: FeatureStore, file: str, index: int, tmp_path: Path) -> None:
    path = Path(store.uri) / file
    path.write_bytes(DAMAGE[file][index](path.read_bytes()))
    readers: dict[str, Callable[[], object]] = {
        "icbhi/dataset.json": lambda: store.dataset("icbhi"),
        "icbhi/cycles.parquet": lambda: store.cycles("icbhi"),
        "icbhi/splits/official.parquet": lambda: store.split("icbhi", "official", "lungsound4"),
        MANIFEST: lambda: store.manifest("icbhi", SPEC),
    }
    with pytest.raises(UserError) as caught:
        readers[file]()
    assert caught.value.where == str(path) and "features build" in str(caught.value.hint)
    for read in (lambda: store.load("icbhi", SPEC.feature_id, tmp_path), lambda: store.manifests("icbhi")):
        with contextlib.suppress(UserError):  # and nothing else is raised
            read()
    if file == "icbhi/splits/official.parquet":
        with pytest.raises(UserError, match="official"):
            store.split("icbhi", "official-inner2", "lungsound4")
    found = verify_dataset(store, "icbhi") + verify_feature(store, "icbhi", SPEC.feature_id)
    assert any(path.name in problem for problem in found)


def test_a_part_with_other_rows_than_the_manifest_says_is_found(store: FeatureStore, tmp_path: Path) -> None:
    path = Path(store.uri) / MANIFEST
    content = json.loads(path.read_text())
    name = next(name for name, entry in content["recordings"].items() if entry["part"] == content["parts"][0]["file"])
    content["recordings"][name]["rows"] += 1
    content["parts"][0]["rows"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="rows, and the manifest says"):
        store.load("icbhi", SPEC.feature_id, tmp_path)
    assert any("rows, and the manifest says" in problem for problem in verify_feature(store, "icbhi", SPEC.feature_id))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in DAMAGE if file != MANIFEST])
def test_the_next_build_mends_it(store: FeatureStore, root: Path, file: str) -> None:
    (Path(store.uri) / file).write_bytes(b"")
    assert rebuild(root, store).computed == 0
    assert verify_dataset(store, "icbhi") == verify_feature(store, "icbhi", SPEC.feature_id) == []


def test_a_sound_store_has_no_problem(store: FeatureStore) -> None:
    assert verify_dataset(store, "icbhi") == verify_feature(store, "icbhi", SPEC.feature_id) == []


BUILD = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from tests.support.corpora import HALF, rebuild
from feature_store.store import FeatureStore
store = FeatureStore.open(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    rebuild(Path(sys.argv[2]), store, HALF)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits of files")
def test_a_full_disk_is_named_and_loses_nothing(store: FeatureStore, root: Path) -> None:
    """Files can grow to a limit only, as on a full disk: the first part does not fit."""
    before = {path: path.read_bytes() for path in Path(store.uri).rglob("*") if path.is_file()}
    command = [sys.executable, "-c", BUILD, store.uri, str(root), "20000", str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UserError ") and "the disk is full" in done.stdout, done.stdout
    after = {path: path.read_bytes() for path in Path(store.uri).rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if not path.name.startswith(".")} == {
        path: data for path, data in before.items() if not path.name.startswith(".")
    }
    assert rebuild(root, store, HALF).failed == []
    assert verify_feature(store, "icbhi", HALF.feature_id) == []
