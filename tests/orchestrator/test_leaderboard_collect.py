"""From results to entries: every number follows from the predictions."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from orchestrator.analysis.calibration import calibration_error, reliability_sums
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import Leaderboard
from tests.support.leaderboard_boards import CHAMPION, build, entry_of, table_of
from tests.support.leaderboard_results import RECIPES, Side, five_fold, fold_result, publish, realistic
from workers.evaluation import evaluate, softmax
from workers.results import PREDICTIONS, ResultStore

WATCHED, BEST_MN = RECIPES[0], RECIPES[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return realistic(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def built(store: ResultStore) -> Leaderboard:
    return build_board(store, CHAMPION, resamples=2_000)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
