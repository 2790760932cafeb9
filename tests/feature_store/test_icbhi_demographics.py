"""Sex and age of a cycle's patient stand in the table of cycles, and rename no result."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.store import FeatureStore
from tests.support.corpora import SPEC, rebuild
from workers.data import data_hash


def by_hand(path: Path) -> dict[str, tuple[str | None, float | None]]:
    rows = (line.split() for line in path.read_text().splitlines() if line.strip())
    return {row[0]: (None if row[2] == "NA" else row[2], None if row[1] == "NA" else float(row[1])) for row in rows}


def test_they_are_those_of_the_patients_line(root: Path):
    (file,) = root.rglob("metadata.txt")
    known = by_hand(file)
    table = IcbhiCorpus(root).cycle_table()
    found = zip(*(table[column].to_pylist() for column in ("patient", "sex", "age")), strict=True)
    assert [(sex, age) for _, sex, age in found] == [known[patient] for patient in table["patient"].to_pylist()]
    assert {"M", "F"} <= set(table["sex"].to_pylist())


def test_they_are_unknown_where_there_is_no_list(root: Path):
    (file,) = root.rglob("metadata.txt")
    file.unlink()
    table = IcbhiCorpus(root).cycle_table()
    assert table["sex"].null_count == table["age"].null_count == len(table) > 0
    assert (table["sex"].type, table["age"].type) == (pa.string(), pa.float64())


def test_an_older_store_gets_them_by_the_next_build_without_computing_a_feature(store: FeatureStore, root: Path):
    path = Path(store.uri) / "icbhi" / "cycles.parquet"
    older = store.cycles("icbhi").drop_columns(["sex", "age"])
    pq.write_table(older, path)
    before = data_hash(store.manifest("icbhi", SPEC).content_hash, older, "lungsound4")
    report = rebuild(root, store)
    assert (report.computed, report.cycles_computed) == (0, 0)
    cycles = store.cycles("icbhi")
    assert {"sex", "age"} <= set(cycles.column_names)
    assert data_hash(store.manifest("icbhi", SPEC).content_hash, cycles, "lungsound4") == before
