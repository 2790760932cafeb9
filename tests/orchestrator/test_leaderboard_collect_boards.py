"""What is ranked with what: boards, protocols, the search, the published results, the champions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest

from feature_store.metrics import Metric
from orchestrator.analysis.groups import inner_folds, split_folds
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.published import FLAGS, by_corpus, published_beside, published_results
from orchestrator.leaderboard.schema import Leaderboard, Published
from tests.support.leaderboard_boards import build, entry_of, table_of
from tests.support.leaderboard_results import (
    AST,
    CL,
    PHASE,
    RECIPES,
    VOICE,
    Recipe,
    Side,
    fold_result,
    publish,
    realistic,
)
from workers.results import PREDICTIONS, ResultStore

WATCHED, BEST_MN = RECIPES[0], RECIPES[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return realistic(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def built(store: ResultStore) -> Leaderboard:
    return build_board(store, resamples=2_000)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_trial_leads_to_the_first_board_that_shows_its_config(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    for side, folds in ((Side(), 1), (Side("five-fold", cycles=200), 5), (Side("official-inner5", cycles=60), 5)):
        publish(store, BEST_MN, side, range(folds), [0])
    built = build(tmp_path)
    official = built.boards[0]
    assert (official.data.split, built.boards[1].data.split) == ("official", "five-fold")
    for table in built.search:
        assert table.rows[0].ranked_as == table_of(official, table.protocol).entries[0].id


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


def test_warnings_name_sounds_under_two_names_and_the_list_of_the_split(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    result, predictions = fold_result(RECIPES[2], Side(recordings=920, both_sides=()), 0, 0)
    changes = {"sounds_on_both_sides": ["b", "c"], "sounds_in_doubt": ["a", "b", "c"], "split_source": "a copy"}
    data = result.data.model_copy(update=changes)
    store.publish(result.model_copy(update={"data": data}), {PREDICTIONS: predictions})
    (board,) = build(tmp_path).boards
    assert [warning.split(".")[0] for warning in board.warnings] == [
        "Sounds on both sides of the split under two names: 2 tested recordings are trained on, the first is b",
        "Sounds under two patients or two labels: 3 recordings, the first is a",
        "The official split: a copy",
    ]


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


@pytest.mark.slow
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


@dataclass
class Change:
    version: str
    when: str
    reason: str
    score: float | None
    config_hash: str | None
    metric: Metric = "icbhi4"


@pytest.mark.slow
def test_the_history_of_the_champions_names_the_entries_that_are_shown(store: ResultStore):
    history = {
        "icbhi-lungsound4": [
            Change("1", "2026-03-01T10:00:00+00:00", "the first", 48.0, "0" * 16),
            Change("3", "2026-03-03T10:00:00+00:00", "51.2 against 48.0", 51.2, BEST_MN.config_hash),
        ],
        "breathing-phase-phase2": [Change("1", "2026-03-02T10:00:00+00:00", "the first", 71.0, None, "accuracy")],
    }
    built = build_board(store, resamples=100, history=history)
    shown = entry_of(table_of(built.boards[0], "validation"), BEST_MN)
    assert [(c.model, c.version, c.entry) for c in built.champions] == [
        ("icbhi-lungsound4", "1", None),
        ("breathing-phase-phase2", "1", None),
        ("icbhi-lungsound4", "3", shown.id),
    ]
    assert [change.metric for change in built.champions] == ["icbhi4", "accuracy", "icbhi4"]
    assert (built.champions[2].reason, built.champions[2].score) == ("51.2 against 48.0", 51.2)


def test_every_flag_of_a_published_result_is_explained(built: Leaderboard):
    assert set(built.published_flags) == set(FLAGS)
    for column, meanings in built.published_flags.items():
        assert {getattr(row, column) for row in built.published} == set(meanings)
        allowed = set(get_args(Published.model_fields[column].annotation))
        assert {getattr(row, column) for row in published_results()} == set(FLAGS[column]) == allowed


def test_published_results_are_there_for_icbhi(built: Leaderboard):
    assert len(built.published) == 48
    assert {row.dataset for row in built.published} == {"icbhi"}
    top = next(row for row in built.published if row.method == "Patch-Mix CL (Bae et al.)" and row.metric == "icbhi4")
    assert (top.score, top.specificity, top.sensitivity, top.selection) == (62.37, 81.66, 43.07, "test_best")


def test_published_results_are_there_for_clips_and_voices():
    """The figures of the sources, none of them under an honest split of the boards."""
    rows = published_beside([("breathing-phase", "accuracy"), ("aicup-voice", "uar")])
    found = {(row.dataset, row.split, row.backbone): (row.score, row.selection) for row in rows}
    assert found == {
        ("breathing-phase", "random", "CNN8"): (77.8, "test_best"),
        ("breathing-phase", "random", "VGG"): (79.2, "test_best"),
        ("breathing-phase", "contest-public", "CNN8"): (76.1, "held_out"),
        ("breathing-phase", "contest-public", "VGG"): (77.1, "held_out"),
        ("breathing-phase", "contest-public", "CNN8 + VGG"): (78.571, "held_out"),
        ("breathing-phase", "contest-private", "CNN8"): (73.7, "held_out"),
        ("breathing-phase", "contest-private", "VGG"): (74.7, "held_out"),
        ("breathing-phase", "contest-private", "CNN8 + VGG"): (76.666, "held_out"),
        ("aicup-voice", "contest-public", "5 CNN + MLP"): (60.0654, "held_out"),
        ("aicup-voice", "contest-private", "5 CNN + MLP"): (60.7568, "held_out"),
    }
    assert all(row.specificity is row.sensitivity is None for row in rows)


def test_a_table_of_published_results_is_of_one_corpus_and_one_kind_of_number():
    tables = by_corpus(published_results())
    assert [(table.dataset, table.metric) for table in tables] == [
        ("icbhi", "icbhi4"),
        ("breathing-phase", "accuracy"),
        ("aicup-voice", "uar"),
    ]
    assert [row for table in tables for row in table.rows] == published_results()
    for table, metrics in zip(tables, ({"icbhi4", "icbhi2"}, {"accuracy"}, {"uar"}), strict=True):
        assert {row.dataset for row in table.rows} == {table.dataset}
        assert {row.metric for row in table.rows} == metrics


def test_published_results_stand_beside_a_board_of_their_corpus_and_metric_alone(tmp_path: Path):
    def shown(*sides: Side) -> set[tuple[str, str]]:
        store = ResultStore.open(str(tmp_path / "-".join(f"{side.dataset}{side.metric}" for side in sides)))
        for side in sides:
            publish(store, BEST_MN, side, seeds=[0])
        built = build_board(store, resamples=50)
        return {(row.dataset, row.metric) for row in built.published}

    icbhi = {("icbhi", "icbhi4"), ("icbhi", "icbhi2")}
    assert shown(PHASE) == {("breathing-phase", "accuracy")}
    assert shown(VOICE) == {("aicup-voice", "uar")}
    assert shown(replace(PHASE, metric="icbhi4")) == shown(replace(PHASE, metric="uar")) == set()
    assert shown(Side()) == icbhi
    assert shown(Side(), PHASE) == icbhi | {("breathing-phase", "accuracy")}


@pytest.mark.parametrize(
    ("split", "inner", "folds"),
    [
        ("official", None, 1),
        ("five-fold", None, 5),
        ("four-fold", None, 4),
        ("first-fold", None, 1),
        ("official-inner5", 5, 5),
        ("official-no-overlap-inner3", 3, 3),
        ("five-fold-inner4", 4, 20),
        ("official-inner", None, 1),
    ],
)
def test_folds_by_the_splits_name(split: str, inner: int | None, folds: int):
    assert (inner_folds(split), split_folds(split)) == (inner, folds)
