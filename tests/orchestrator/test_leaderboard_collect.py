"""From results to entries: what is ranked with what, and that every number follows from the predictions."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leaderboard_results import AST, CL, RECIPES, Recipe, Side, five_fold, fold_result, publish, realistic
from sklearn.metrics import recall_score, roc_auc_score

from orchestrator.leaderboard.calibration import calibration_error, reliability_sums
from orchestrator.leaderboard.collect import build_board
from orchestrator.leaderboard.runs import inner_folds, split_folds
from orchestrator.leaderboard.schema import Board, Entry, Leaderboard, Table
from workers.evaluation import evaluate, softmax
from workers.results import PREDICTIONS, RESULT, ResultStore

WATCHED, BEST_MN = RECIPES[0], RECIPES[2]
CHAMPION = {BEST_MN.config_hash: {"name": "icbhi-lungsound4", "version": 3, "alias": "champion"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return realistic(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def built(store: ResultStore) -> Leaderboard:
    return build_board(store, CHAMPION, resamples=2_000)


def table_of(board: Board, protocol: str) -> Table:
    return next(table for table in board.tables if table.protocol == protocol)


def entry_of(table: Table, recipe: Recipe) -> Entry:
    return next(e for e in (*table.entries, *table.incomplete) if e.config_hash == recipe.config_hash)


def build(folder: Path, resamples: int = 200) -> Leaderboard:
    return build_board(ResultStore.open(str(folder)), resamples=resamples)


def test_protocols_rank_apart_and_honest_ones_come_first(built: Leaderboard):
    (board,) = built.boards
    assert [(table.protocol, table.honest) for table in board.tables] == [
        ("validation", True),
        ("last", True),
        ("test_best", False),
    ]
    assert {len(table.entries) for table in board.tables[:2]} == {len(RECIPES)}
    assert [entry.config_hash for entry in table_of(board, "test_best").entries] == [WATCHED.config_hash]
    ids = [entry.id for table in board.tables for entry in table.entries]
    assert len(set(ids)) == len(ids)


def test_ranks_follow_the_score_and_say_what_is_tied(built: Leaderboard):
    for table in built.boards[0].tables:
        means = [entry.numbers.score.mean for entry in table.entries]
        assert means == sorted(means, reverse=True)
        assert [entry.rank for entry in table.entries] == list(range(1, len(means) + 1))
        for entry in table.entries:
            assert entry.numbers.score.low < entry.numbers.score.mean < entry.numbers.score.high
            assert 1 <= entry.rank_low <= entry.rank <= entry.rank_high <= len(table.entries)
        leader = table.entries[0]
        assert (leader.group, leader.tied_with, leader.difference) == (1, None, None)
        for before, entry in itertools.pairwise(table.entries):
            tied = entry.difference.low <= 0 <= entry.difference.high
            assert entry.difference.other == leader.id
            assert entry.difference.mean == pytest.approx(entry.numbers.score.mean - leader.numbers.score.mean)
            assert entry.group == before.group + (not tied)
            assert entry.tied_with == (leader.id if tied else None)
            leader = leader if tied else entry
    assert max(entry.group for entry in table_of(built.boards[0], "last").entries) > 1
    assert any(entry.tied_with for table in built.boards[0].tables for entry in table.entries)


def test_numbers_follow_from_the_predictions(store: ResultStore, built: Leaderboard):
    entry = entry_of(table_of(built.boards[0], "last"), WATCHED)
    seeds = []
    for name in entry.results:
        rows = store.predictions(name).filter(np.asarray(store.predictions(name)["protocol"]) == "last")
        logits, labels = np.array(rows["logits"].to_pylist()), np.array(rows["label"])
        predicted, abnormal = logits.argmax(axis=1), labels > 0
        seeds.append(
            (
                100 * recall_score(labels == 0, predicted == 0),
                100 * recall_score(labels[abnormal], predicted[abnormal], labels=[1, 2, 3], average="micro"),
                100 * recall_score(abnormal, predicted > 0),
                100 * recall_score(labels, predicted, average="macro"),
                roc_auc_score(labels, softmax(logits), multi_class="ovr"),
            )
        )
    sp, se, se2, uar, auroc = np.array(seeds).T
    numbers = entry.numbers
    assert len(seeds) == 3
    assert numbers.specificity.mean == pytest.approx(sp.mean())
    assert numbers.sensitivity.mean == pytest.approx(se.mean())
    assert numbers.score.mean == pytest.approx((sp + se).mean() / 2)
    assert numbers.score.sd == pytest.approx(((sp + se) / 2).std(ddof=1))
    assert numbers.icbhi2_score.mean == pytest.approx((sp + se2).mean() / 2)
    assert numbers.uar.mean == pytest.approx(uar.mean())
    assert numbers.auroc.mean == pytest.approx(auroc.mean())
    assert numbers.pooled_score is None
    assert [row.score for row in entry.seeds] == pytest.approx((sp + se) / 2)
    assert np.sum(entry.confusion) == 3 * 920


def test_what_a_reader_asks_of_an_entry(built: Leaderboard):
    watched = entry_of(table_of(built.boards[0], "validation"), WATCHED)
    assert (watched.model.label, watched.objective.label) == ("AST base", "Patch-Mix CL")
    assert watched.objective.settings == {"α": 1.0, "τ": 0.06, "β": 1.0}
    assert watched.model.pretrained == "deit_base.pt"
    assert (watched.test_watched, watched.test_reads) == (True, 13)
    assert watched.cost.train_minutes == pytest.approx(52)
    assert (watched.cost.device, watched.cost.gpu_hours, watched.cost.energy_kwh) == ("cpu", None, None)
    assert (watched.pretraining, watched.extra_data) == ("ImageNet", [])
    unwatched = entry_of(table_of(built.boards[0], "validation"), BEST_MN)
    assert (unwatched.test_watched, unwatched.test_reads) == (False, 1)


def test_entries_of_one_model_and_objective_say_in_what_they_differ(built: Leaderboard):
    table = table_of(built.boards[0], "last")
    differs = {e.config_hash: e.differs for e in table.entries}
    assert differs[RECIPES[2].config_hash] == {"optim.lr": 0.001}
    assert differs[RECIPES[3].config_hash] == {"optim.lr": 0.0001}
    assert differs[WATCHED.config_hash] == {}


def test_the_champion_wears_its_badge(built: Leaderboard):
    for table in built.boards[0].tables[:2]:
        badges = {entry.config_hash: entry.registered for entry in table.entries if entry.registered}
        assert list(badges) == [BEST_MN.config_hash]
        assert badges[BEST_MN.config_hash].model_dump() == {
            "name": "icbhi-lungsound4",
            "version": "3",
            "alias": "champion",
        }


def test_inner_folds_make_a_table_of_their_own(built: Leaderboard):
    assert [board.data.split for board in built.boards] == ["official"]
    assert [(t.data.split, t.protocol) for t in built.search] == [
        ("official-inner5", "validation"),
        ("official-inner5", "last"),
    ]
    table = built.search[1]
    assert table.trials == len(RECIPES) + 8
    assert table.complete == table.trials - 3
    assert all(row.folds_done == row.folds == 5 for row in table.rows)
    for _, rows in itertools.groupby(sorted(table.rows, key=lambda r: r.model.family), lambda r: r.model.family):
        assert len(list(rows)) <= 5
    ranked = {e.config_hash: e.id for e in table_of(built.boards[0], "last").entries}
    assert {r.config_hash: r.ranked_as for r in table.rows if r.ranked_as} == {
        r.config_hash: ranked[r.config_hash] for r in table.rows if r.config_hash in ranked
    }
    assert any(row.ranked_as for row in table.rows)


def test_five_folds_give_mean_and_pooled_score(tmp_path: Path):
    store = five_fold(tmp_path)
    built = build_board(store, resamples=500)
    (board,) = built.boards
    table = table_of(board, "last")
    (entry,) = table.entries
    by_seed: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    scores: dict[int, list[float]] = {}
    for name in entry.results:
        result = store.get(name)
        rows = store.predictions(name).filter(np.asarray(store.predictions(name)["protocol"]) == "last")
        predicted, labels = np.array(rows["logits"].to_pylist()).argmax(axis=1), np.array(rows["label"])
        by_seed.setdefault(result.key.seed, []).append((predicted, labels))
        scores.setdefault(result.key.seed, []).append(result.protocols["last"].test.icbhi4.score)
    pooled = []
    for folds in by_seed.values():
        predicted, labels = (np.concatenate(part) for part in zip(*folds, strict=True))
        hit, normal = predicted == labels, labels == 0
        pooled.append(50 * (hit[normal].mean() + hit[~normal].mean()))
    assert entry.numbers.score.mean == pytest.approx(np.mean([np.mean(s) for s in scores.values()]))
    assert entry.numbers.pooled_score.mean == pytest.approx(np.mean(pooled))
    assert entry.numbers.score.low < entry.numbers.score.mean < entry.numbers.score.high
    assert board.data.test_cycles == 5 * 260
    assert [len(row.fold_scores) for row in entry.seeds] == [5, 5]


def test_an_entry_that_lacks_a_fold_is_listed_and_not_ranked(tmp_path: Path):
    five_fold(tmp_path)
    table = table_of(build(tmp_path).boards[0], "validation")
    (left,) = table.incomplete
    assert (left.rank, left.numbers, left.note) == (None, None, "4 of 5 folds done")


def test_a_seed_that_lacks_a_fold_does_not_count(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    side = Side("five-fold", patients=20, cycles=200)
    publish(store, BEST_MN, side, range(5), [0, 1])
    publish(store, BEST_MN, side, range(3), [2])
    (entry,) = table_of(build(tmp_path).boards[0], "last").entries
    assert [row.seed for row in entry.seeds] == [0, 1]
    assert len(entry.results) == 10


@pytest.mark.parametrize(
    "other",
    [
        Side("official-no-overlap"),
        Side(recordings=920),
        Side(synthetic=True),
        Side(recordings=199, recordings_listed=199),
    ],
    ids=["split", "part", "synthetic", "extent"],
)
def test_other_data_are_another_board(tmp_path: Path, other: Side):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[0], Side(), seeds=[0])
    publish(store, RECIPES[2], other, seeds=[0])
    boards = build(tmp_path).boards
    assert len(boards) == len({board.id for board in boards}) == 2
    assert all(len(table.entries) == 1 for board in boards for table in board.tables)


def test_warnings_name_the_part_the_synthetic_and_the_patients_on_both_sides(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=[0])
    publish(store, RECIPES[2], Side(synthetic=True, both_sides=()), seeds=[0])
    publish(store, RECIPES[2], Side(recordings=920, both_sides=()), seeds=[0])
    whole, part, synthetic = build(tmp_path).boards
    assert whole.warnings == []
    assert "199 of 920 recordings" in part.warnings[0]
    assert "156 and 218" in part.warnings[1]
    assert len(synthetic.warnings) == 1
    assert "Synthetic" in synthetic.warnings[0]


def test_other_semantics_or_data_are_another_entry(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=[0])
    for change in ({"semantics": 2}, {"data_hash": "0" * 16}):
        result, predictions = fold_result(RECIPES[2], Side(), 0, 0)
        key = result.key.model_copy(update=change)
        store.publish(result.model_copy(update={"key": key, "hash": key.hash}), {PREDICTIONS: predictions})
    table = table_of(build(tmp_path).boards[0], "last")
    assert [len(entry.seeds) for entry in table.entries] == [1, 1, 1]
    assert [entry.rank for entry in table.entries] == [1, 1, 1]  # the same predictions: tied


def test_a_score_that_was_tampered_with_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    path = tmp_path / name[:2] / name / RESULT
    content = json.loads(path.read_text())
    content["protocols"]["last"]["test"]["icbhi4"]["score"] += 5.0
    path.write_text(json.dumps(content))
    board = build(tmp_path).boards[0]
    assert table_of(board, "last").entries == []
    assert "by its predictions" in table_of(board, "last").incomplete[0].note
    assert len(table_of(board, "validation").entries) == 1


def test_a_test_side_with_fewer_cycles_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=[0])
    publish(store, RECIPES[4], Side(cycles=900), seeds=[0])
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[2].config_hash]
    assert table.incomplete[0].note == "tested on 900 of 920 cycles"


def test_a_result_that_cannot_be_read_is_named_and_the_rest_is_built(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    first, second = publish(store, RECIPES[2], Side(), seeds=[0, 1])
    (tmp_path / first[:2] / first / RESULT).write_text('{"schema": 7}')
    built = build(tmp_path)
    assert [problem.result for problem in built.problems] == [first]
    assert built.results == 1
    assert table_of(built.boards[0], "last").entries[0].results == [second]


def test_a_copy_of_a_defect_is_shown_and_not_ranked(tmp_path: Path):
    results = ResultStore.open(str(tmp_path))
    for recipe, changes in ((RECIPES[1], {}), (RECIPES[2], {"compat": ["augment.gate"]})):
        result, predictions = fold_result(recipe, Side(), 0, 0, **changes)
        results.publish(result, {PREDICTIONS: predictions})
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[1].config_hash]
    (copy,) = table.incomplete
    assert copy.compat == ["augment.gate"] and copy.numbers is not None and copy.rank is None
    assert copy.note is not None and "augment.gate" in copy.note and f"{copy.numbers.score.mean:.2f}" in copy.note


def test_an_entry_without_its_predictions_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    (tmp_path / name[:2] / name / PREDICTIONS).unlink()
    table = table_of(build(tmp_path).boards[0], "last")
    assert table.entries == []
    assert PREDICTIONS in table.incomplete[0].note


def test_predictions_are_read_once_and_only_where_they_are_shown(tmp_path: Path):
    class Counting(ResultStore):
        asked: list[str] = []  # noqa: RUF012

        def predictions(self, result_hash: str, side: str = "test"):
            self.asked.append(result_hash)
            return super().predictions(result_hash, side)

    store = Counting.open(str(tmp_path))
    assert isinstance(store, Counting)
    inner = Side("official-inner5", patients=8, cycles=60)
    best = Recipe({**AST, "size": "small"}, CL, skill=2.5)
    shown = publish(store, RECIPES[2], Side(), seeds=[0]) + publish(store, best, inner, range(5), [0])
    for index in range(6):  # five of them stand below the best: one is not shown
        names = publish(store, replace(best, skill=1.5 - 0.2 * index, lr=0.01 * (index + 1)), inner, range(5), [0])
        shown += names if index < 4 else []
    publish(store, replace(best, lr=0.5), inner, range(2), [0])
    build_board(store, resamples=100)
    assert sorted(store.asked) == sorted(shown)


def test_an_empty_store_gives_an_empty_board(tmp_path: Path):
    built = build(tmp_path / "nothing")
    assert (built.results, built.boards, built.search, built.published) == (0, [], [], [])


def test_the_patients_on_both_sides_can_be_left_out(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    side = Side(both_sides=("103", "107", "999"))
    publish(store, BEST_MN, side, seeds=[0, 1])
    (entry,) = table_of(build(tmp_path, 2_000).boards[0], "last").entries
    scores = []
    for name in entry.results:
        rows = store.predictions(name).filter(np.asarray(store.predictions(name)["protocol"]) == "last")
        stay = ~np.isin(np.asarray(rows["patient"]), side.both_sides)
        assert 0 < stay.sum() < 920
        scores.append(evaluate(np.array(rows["logits"].to_pylist())[stay], np.array(rows["label"])[stay]).icbhi4.score)
    assert entry.without_shared.mean == pytest.approx(np.mean(scores))
    assert entry.without_shared.sd == pytest.approx(np.std(scores, ddof=1))
    assert entry.without_shared.low < entry.without_shared.mean < entry.without_shared.high
    assert entry.numbers.score.mean != entry.without_shared.mean


def test_nothing_is_left_out_where_the_shared_patients_are_not_tested(built: Leaderboard):
    assert built.boards[0].data.patients_on_both_sides == ["156", "218"]
    assert all(entry.without_shared is None for entry in built.boards[0].tables[0].entries)


def test_folds_can_be_weighted_by_their_cycles(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    for fold in range(5):
        side = Side("five-fold", patients=20, cycles=100 + 150 * fold, both_sides=())
        for seed in (0, 1):
            result, predictions = fold_result(BEST_MN, side, fold, seed)
            key = result.key.model_copy(update={"split_hash": "f" * 16})
            store.publish(result.model_copy(update={"key": key, "hash": key.hash}), {PREDICTIONS: predictions})
    (entry,) = table_of(build(tmp_path).boards[0], "last").entries
    cycles = np.array([100, 250, 400, 550, 700])
    weighted = [np.dot(seed.fold_scores, cycles) / 2000 for seed in entry.seeds]
    assert entry.cycle_weighted.mean == pytest.approx(np.mean(weighted))
    assert entry.cycle_weighted.sd == pytest.approx(np.std(weighted, ddof=1))
    assert len({entry.numbers.score.mean, entry.cycle_weighted.mean, entry.numbers.pooled_score.mean}) == 3


def test_calibration_error_is_the_mean_over_seeds(store: ResultStore, built: Leaderboard):
    entry = entry_of(table_of(built.boards[0], "last"), WATCHED)
    errors = []
    for name in entry.results:
        rows = store.predictions(name).filter(np.asarray(store.predictions(name)["protocol"]) == "last")
        probabilities, labels = softmax(np.array(rows["logits"].to_pylist())), np.array(rows["label"])
        errors.append(calibration_error(reliability_sums(probabilities, labels)))
    assert entry.numbers.ece.mean == pytest.approx(np.mean(errors))
    assert entry.numbers.ece.sd == pytest.approx(np.std(errors, ddof=1))


def test_hours_on_a_gpu_are_counted_and_the_energy_where_it_was_measured(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    for seed in (0, 1):
        result, predictions = fold_result(BEST_MN, Side(), 0, seed)
        provenance = result.provenance.model_copy(update={"device": "NVIDIA H200"})
        timing = {**result.timing, "train_seconds": 3600.0 * (1 + seed), "energy_kwh": 0.5 + seed}
        store.publish(
            result.model_copy(update={"provenance": provenance, "timing": timing}), {PREDICTIONS: predictions}
        )
    (entry,) = table_of(build(tmp_path).boards[0], "last").entries
    assert entry.cost.model_dump() == {
        "train_minutes": 90.0,
        "gpu_hours": 1.5,
        "device": "NVIDIA H200",
        "energy_kwh": 1.0,
    }


def test_other_cycles_of_the_same_number_are_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[1], Side(), seeds=[0])
    publish(store, RECIPES[2], Side(), seeds=[0])
    result, _ = fold_result(RECIPES[4], Side(), 0, 0)
    _, others = fold_result(replace(RECIPES[4], skill=9), Side(), 0, 0)
    table = pq.read_table(io.BytesIO(others))
    sink = io.BytesIO()
    renamed = pa.array([f"x{name}" for name in table["cycle_id"].to_pylist()])
    pq.write_table(table.set_column(0, "cycle_id", renamed), sink)
    logits = np.array(table["logits"].to_pylist())
    protocols = {
        name: protocol.model_copy(
            update={"test": evaluate(logits[rows := of(table, name)], np.array(table["label"])[rows])}
        )
        for name, protocol in result.protocols.items()
    }
    store.publish(result.model_copy(update={"protocols": protocols}), {PREDICTIONS: sink.getvalue()})
    found = table_of(build(tmp_path).boards[0], "last")
    assert len(found.entries) == 2
    assert found.incomplete[0].note == "tested on other cycles than most entries of this table"


def of(table: pa.Table, protocol: str) -> np.ndarray:
    return (np.asarray(table["protocol"]) == protocol) & (np.asarray(table["side"]) == "test")


def test_broken_predictions_cost_their_entry_its_rank(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, RECIPES[2], Side(), seeds=[0])
    publish(store, RECIPES[4], Side(), seeds=[0])
    path = tmp_path / name[:2] / name / PREDICTIONS
    path.write_bytes(path.read_bytes()[:200])
    table = table_of(build(tmp_path).boards[0], "last")
    assert [entry.config_hash for entry in table.entries] == [RECIPES[4].config_hash]
    assert f"{PREDICTIONS} of result {name} cannot be read" in table.incomplete[0].note


def test_a_config_of_another_version_is_named_and_the_rest_is_built(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    first, second = publish(store, RECIPES[2], Side(), seeds=[0]) + publish(store, RECIPES[4], Side(), seeds=[0])
    path = tmp_path / first[:2] / first / RESULT
    content = json.loads(path.read_text())
    del content["config"]["model"]["width"]
    path.write_text(json.dumps(content))
    built = build(tmp_path)
    assert [problem.result for problem in built.problems] == [first]
    assert "'width'" in built.problems[0].what
    assert [entry.results for entry in table_of(built.boards[0], "last").entries] == [[second]]


@dataclass
class Change:
    version: str
    when: str
    reason: str
    score: float | None
    config_hash: str | None


def test_the_history_of_the_champions_names_the_entries_that_are_shown(store: ResultStore):
    history = {
        "icbhi-lungsound4": [
            Change("1", "2026-03-01T10:00:00+00:00", "the first", 48.0, "0" * 16),
            Change("3", "2026-03-03T10:00:00+00:00", "51.2 against 48.0", 51.2, BEST_MN.config_hash),
        ],
        "icbhi-diagnosis3": [Change("1", "2026-03-02T10:00:00+00:00", "the first", None, None)],
    }
    built = build_board(store, resamples=100, history=history)
    shown = entry_of(table_of(built.boards[0], "validation"), BEST_MN)
    assert [(c.model, c.version, c.entry) for c in built.champions] == [
        ("icbhi-lungsound4", "1", None),
        ("icbhi-diagnosis3", "1", None),
        ("icbhi-lungsound4", "3", shown.id),
    ]
    assert (built.champions[2].reason, built.champions[2].score) == ("51.2 against 48.0", 51.2)


def test_every_flag_of_a_published_result_is_explained(built: Leaderboard):
    assert set(built.published_flags) == {"selection", "split", "metric", "evidence"}
    for column, meanings in built.published_flags.items():
        assert {getattr(row, column) for row in built.published} <= set(meanings)


def test_published_results_are_there_for_icbhi(built: Leaderboard):
    assert len(built.published) == 48
    top = next(row for row in built.published if row.method == "Patch-Mix CL (Bae et al.)" and row.metric == "icbhi4")
    assert (top.score, top.specificity, top.sensitivity, top.selection) == (62.37, 81.66, 43.07, "test_best")


@pytest.mark.parametrize(
    ("split", "inner", "folds"),
    [
        ("official", None, 1),
        ("five-fold", None, 5),
        ("official-inner5", 5, 5),
        ("official-no-overlap-inner3", 3, 3),
        ("five-fold-inner4", 4, 20),
        ("official-inner", None, 1),
    ],
)
def test_folds_by_the_splits_name(split: str, inner: int | None, folds: int):
    assert (inner_folds(split), split_folds(split)) == (inner, folds)
