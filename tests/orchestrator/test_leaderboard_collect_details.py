"""The documents of single entries: everything in them follows from the stored predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.analysis.calibration import reliability, reliability_sums
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import WORST, Details
from orchestrator.leaderboard.schema import Entry, EntryDetail, Leaderboard
from tests.support.leaderboard_results import RECIPES, Side, fold_result, publish
from workers.evaluation import evaluate, softmax
from workers.results import PREDICTIONS, ResultStore

SIDE = Side("five-fold", patients=12, cycles=150, both_sides=())
WATCHED, MN = RECIPES[0], RECIPES[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    store = ResultStore.open(str(tmp_path_factory.mktemp("results")))
    publish(store, WATCHED, SIDE, range(5), [0, 1])
    publish(store, MN, SIDE, range(5), [0, 1])
    return store


@pytest.fixture(scope="module")
def built(results: ResultStore) -> Leaderboard:
    return build_board(results, resamples=200)


@pytest.fixture
def features(tmp_path: Path, results: ResultStore) -> str:
    """A feature store that knows who was tested: even patients are women, every fourth one is a child."""
    names = sorted({cycle for name in results.hashes() for cycle in results.predictions(name)["cycle_id"].to_pylist()})
    patients = [int(name.partition("_")[0]) for name in names]
    table = pa.table(
        {
            "cycle_id": names,
            "location": [["Al", "Tc"][len(name) % 2] for name in names],
            "sex": pa.array([None if p % 5 == 0 else "F" if p % 2 == 0 else "M" for p in patients], pa.string()),
            "age": pa.array([3.0 if p % 4 == 0 else 70.0 for p in patients]),
        }
    )
    (tmp_path / "icbhi").mkdir()
    (tmp_path / "store.json").write_text(json.dumps({"version": 1}))
    pq.write_table(table, tmp_path / "icbhi" / "cycles.parquet")
    return str(tmp_path)


def leader(built: Leaderboard, protocol: str = "last") -> Entry:
    (board,) = built.boards
    return next(table for table in board.tables if table.protocol == protocol).entries[0]


def stored(results: ResultStore, entry: Entry, protocol: str = "last") -> dict[tuple[int, int], pa.Table]:
    """(seed, fold) -> rows of the test side."""
    found = {}
    for name in entry.results:
        table = results.predictions(name)
        key = results.get(name).key
        found[key.seed, key.fold] = table.filter(np.asarray(table["protocol"]) == protocol)
    return found


@pytest.mark.slow
def test_the_score_follows_from_the_hits(results: ResultStore, built: Leaderboard):
    for table in built.boards[0].tables:
        for entry in table.entries:
            found = Details(built, results).entry(entry)
            sums = np.array([np.sum(fold, axis=0) for fold in found.hits])
            scores = 50 * (sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3])
            assert scores.mean() == pytest.approx(entry.numbers.score.mean)
            assert [len(fold) for fold in found.hits] == [len(names) for names in found.patients]
            assert found.cycles_hash == entry.cycles_hash


@pytest.mark.slow
def test_predicted_classes_are_those_of_the_mean_probability(results: ResultStore, built: Leaderboard):
    entry = leader(built)
    found, rows = Details(built, results).entry(entry), stored(results, entry)
    mean = np.concatenate(
        [np.mean([softmax(np.array(rows[s, f]["logits"].to_pylist())) for s in (0, 1)], axis=0) for f in range(5)]
    )
    labels = np.concatenate([np.array(rows[0, f]["label"]) for f in range(5)])
    assert [int(c, 36) for c in found.predicted] == mean.argmax(axis=1).tolist()
    assert [int(c, 36) for c in found.labels] == labels.tolist()
    board = Details(built, results).board(built.boards[0])
    assert board.cycle_ids == [name for f in range(5) for name in rows[0, f]["cycle_id"].to_pylist()]
    assert board.cycles_hash == entry.cycles_hash

    wrong = sorted(
        (-mean[row].max(), row) for row in range(len(labels)) if mean[row].argmax() != labels[row]
    )[:WORST]  # fmt: skip
    assert [error.probability for error in found.worst] == pytest.approx([-p for p, _ in wrong])
    assert [error.cycle_id for error in found.worst] == [board.cycle_ids[row] for _, row in wrong]
    first = found.worst[0]
    assert first.truth == built.boards[0].data.classes[labels[wrong[0][1]]] != first.predicted
    assert (first.patient, first.recording) == (first.cycle_id.split("_")[0], first.cycle_id.split("#")[0])


def test_reliability_and_class_recall_are_over_all_seeds_and_folds(results: ResultStore, built: Leaderboard):
    entry = leader(built)
    found, rows = Details(built, results).entry(entry), stored(results, entry)
    logits = np.concatenate([np.array(table["logits"].to_pylist()) for table in rows.values()])
    labels = np.concatenate([np.array(table["label"]) for table in rows.values()])
    assert found.reliability.ece == pytest.approx(reliability(reliability_sums(softmax(logits), labels)).ece)
    assert sum(item.cycles for item in found.reliability.bins) == 2 * 5 * 150
    assert [item.recall for item in found.breakdowns["class"]] == pytest.approx(evaluate(logits, labels).recall)
    assert [item.recall for item in found.breakdowns["class"]] == pytest.approx(entry.recall)
    assert {item.name for item in found.breakdowns["device"]} == {"Meditron", "Litt3200", "AKGC417L"}
    assert sum(item.cycles for item in found.breakdowns["patient"]) == 5 * 150


def test_curves_and_config_are_the_results(results: ResultStore, built: Leaderboard):
    entry = leader(built)
    found = Details(built, results).entry(entry)
    assert [(curve.seed, curve.fold, curve.chosen) for curve in found.curves] == [
        (seed, fold, 12) for seed in (0, 1) for fold in range(5)
    ]
    assert all(len(curve.validation) == len(curve.train_loss) == 12 for curve in found.curves)
    assert found.config == results.get(entry.results[0]).config


def test_who_and_where_come_from_the_feature_store(results: ResultStore, built: Leaderboard, features: str):
    entry = leader(built)
    found = Details(built, results, features).entry(entry).breakdowns
    assert list(found) == ["class", "device", "location", "sex", "age_group", "patient"]
    assert [item.name for item in found["sex"]] == ["female", "male", "unknown"]
    assert [item.name for item in found["age_group"]] == ["65 and over", "under 18"]
    rows = stored(results, entry)
    patients = np.concatenate([np.asarray(rows[s, f]["patient"]).astype(int) for s in (0, 1) for f in range(5)])
    logits = np.concatenate([np.array(rows[s, f]["logits"].to_pylist()) for s in (0, 1) for f in range(5)])
    labels = np.concatenate([np.array(rows[s, f]["label"]) for s in (0, 1) for f in range(5)])
    children = patients % 4 == 0
    young = next(item for item in found["age_group"] if item.name == "under 18")
    assert young.score == pytest.approx(evaluate(logits[children], labels[children]).icbhi4.score)
    assert young.cycles == children.sum() // 2
    assert {item.name for item in found["location"]} <= {"Al", "Tc"}


@pytest.mark.parametrize("store", [None, "nowhere", "s3-like://nothing"])
def test_without_a_feature_store_the_rest_is_there(results: ResultStore, built: Leaderboard, store: str | None):
    found = Details(built, results, store).entry(leader(built))
    assert list(found.breakdowns) == ["class", "device", "patient"]
    assert found.reliability is not None


@pytest.mark.slow
def test_a_document_is_made_only_where_it_would_differ(results: ResultStore, built: Leaderboard, features: str):
    details = Details(built, results)
    first = {document.id: document.digest for document in details.documents({})}
    assert len(first) == sum(len(table.entries) for table in built.boards[0].tables) == 5
    assert list(details.documents(first)) == []
    stale = {**first, leader(built).id: "another"}
    assert [document.id for document in details.documents(stale)] == [leader(built).id]
    located = Details(built, results, features)
    assert len(list(located.documents(first))) == 5  # the store's word changes every document


def test_documents_read_each_result_once(results: ResultStore, built: Leaderboard):
    class Counting(ResultStore):
        asked: list[str] = []  # noqa: RUF012

        def predictions(self, result_hash: str, side: str = "test") -> pa.Table:
            self.asked.append(result_hash)
            return super().predictions(result_hash, side)

    store = Counting(results.storage)
    assert len(list(Details(built, store).documents({}))) == 5
    assert sorted(store.asked) == results.hashes()


def test_an_entry_without_numbers_has_its_config_and_curves(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, MN, SIDE, range(3), [0])
    built = build_board(store, resamples=100)
    (entry,) = built.boards[0].tables[0].incomplete
    found = Details(built, store).entry(entry)
    assert (len(found.curves), found.hits, found.predicted, found.reliability, found.breakdowns) == (
        3,
        [],
        "",
        None,
        {},
    )
    assert found.config["model"]["name"] == "mn"
    assert Details(built, store).board(built.boards[0]) is None


def test_predictions_lost_since_the_board_was_built_cost_what_they_gave(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, MN, Side(), seeds=[0])
    built = build_board(store, resamples=100)
    (tmp_path / name[:2] / name / PREDICTIONS).unlink()
    details = Details(built, store)
    found = details.entry(leader(built))
    assert (len(found.curves), found.cycles_hash, found.hits) == (1, None, [])
    assert details.board(built.boards[0]) is None


def test_a_document_survives_its_json(results: ResultStore, built: Leaderboard):
    found = Details(built, results).entry(leader(built))
    assert EntryDetail.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert fold_result(MN, SIDE, 0, 0)[0].hash in results.hashes()
