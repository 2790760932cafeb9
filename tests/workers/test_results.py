"""The result store: whole or not at all, once, whoever else writes."""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.errors import UserError
from workers.evaluation import evaluate
from workers.results import (
    PREDICTIONS,
    DataSummary,
    FoldKey,
    FoldResult,
    ProtocolResult,
    Provenance,
    ResultStore,
)

KEY = FoldKey(
    semantics=1, config_hash="c", data_hash="d", feature_id="f", split="official", split_hash="s", fold=0, seed=0
)


def make_result(key: FoldKey = KEY, note: str = "") -> tuple[FoldResult, dict[str, bytes]]:
    labels = np.array([0, 1, 2, 3, 0, 1])
    logits = np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 1, 1]]
    table = pa.table(
        {
            "cycle_id": [f"r#{i:03d}" for i in range(12)],
            "patient": ["101"] * 12,
            "device": ["Meditron"] * 12,
            "label": np.tile(labels, 2).astype(np.int8),
            "side": ["test"] * 6 + ["validation"] * 6,
            "protocol": ["last"] * 12,
            "logits": [*logits.tolist(), *logits.tolist()],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    result = FoldResult(
        hash=key.hash,
        key=key,
        config={"model": {"name": "cnn6"}},
        protocols={"last": ProtocolResult(epoch=1, test=evaluate(logits, labels))},
        epochs=[{"epoch": 1, "train_loss": 1.0}],
        data=DataSummary(
            dataset="icbhi", task="lungsound4", classes=["normal", "crackle", "wheeze", "both"], synthetic=True,
            recordings=1, recordings_listed=1, train=6, validation=6, test=6, train_patients=1, validation_patients=1,
            test_patients=1, train_class_counts=[2, 2, 1, 1], patients_on_both_sides=[],
        ),
        model={"parameters": 1},
        provenance=Provenance(
            lungtune="0", git_commit=note, python="3", torch="2", device="cpu", hostname="h", started="a",
            finished="b", command="pytest",
        ),
        timing={"total_seconds": 1.0, "train_seconds": 0.5, "first_step_seconds": 0.1},
        memory={"peak_bytes": 1},
        test_reads=1,
        files={PREDICTIONS: PREDICTIONS},
    )  # fmt: skip
    return result, {PREDICTIONS: sink.getvalue()}


@pytest.mark.spec("T14")
def test_a_result_comes_back_as_it_was_published(tmp_path: Path) -> None:
    store = ResultStore.open(str(tmp_path))
    result, files = make_result()
    assert result.hash not in store and store.get(result.hash) is None and store.hashes() == []
    assert store.publish(result, files)
    assert store.get(result.hash) == result
    assert store.hashes() == [result.hash]
    assert store.predictions(result.hash)["side"].unique().to_pylist() == ["test"]
    assert len(store.predictions(result.hash, "validation")) == 6
    assert (tmp_path / result.hash[:2] / result.hash / "result.json").exists()


@pytest.mark.spec("O3")
def test_every_part_of_the_key_makes_another_result() -> None:
    changes = {
        "semantics": 2, "config_hash": "x", "data_hash": "x", "feature_id": "x", "split": "five-fold",
        "split_hash": "x", "fold": 1, "seed": 1,
    }  # fmt: skip
    assert set(changes) == set(FoldKey.model_fields)
    hashes = {KEY.model_copy(update={name: value}).hash for name, value in changes.items()} | {KEY.hash}
    assert len(hashes) == len(changes) + 1


def _publish(folder: Path, note: str, answers) -> None:
    result, files = make_result(note=note)
    answers.put((note, ResultStore.open(str(folder)).publish(result, files)))


@pytest.mark.slow
@pytest.mark.spec("O1")
def test_of_many_that_publish_one_fold_run_at_once_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    writers = [context.Process(target=_publish, args=(tmp_path, f"writer {n}", answers)) for n in range(6)]
    for writer in writers:
        writer.start()
    said = dict(answers.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join()
    winner = [note for note, won in said.items() if won]
    stored = ResultStore.open(str(tmp_path)).get(KEY.hash)
    assert stored is not None and winner == [stored.provenance.git_commit]
    assert not list(tmp_path.glob("??/.*")), "no temporary folder is left"


def test_a_folder_without_its_result_is_not_a_result(tmp_path: Path) -> None:
    result, files = make_result()
    folder = tmp_path / result.hash[:2] / f".{result.hash}.torn"
    folder.mkdir(parents=True)
    (folder / PREDICTIONS).write_bytes(files[PREDICTIONS])
    store = ResultStore.open(str(tmp_path))
    assert store.hashes() == [] and result.hash not in store
    assert store.publish(result, files)


def test_a_result_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = ResultStore.open(str(tmp_path))
    result, files = make_result()
    store.publish(result, files)
    path = tmp_path / result.hash[:2] / result.hash / "result.json"
    path.write_text('{"schema": 1}')
    with pytest.raises(UserError, match=r"result\.json.*delete its folder"):
        store.get(result.hash)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    store = ResultStore.open(str(tmp_path))
    result, files = make_result()
    store.publish(result, files)
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        store.read(result.hash, "model.safetensors")
