"""A corpus is ranked by its own metric: every number of its tables against plain formulas and loops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.analysis import bootstrap
from orchestrator.cli.leaderboard import show
from orchestrator.leaderboard import exports
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.headings import chance
from orchestrator.leaderboard.schema import Board, Entry, EntryDetail, Leaderboard, Table
from tests.support.leaderboard_boards import table_of
from tests.support.leaderboard_results import (
    LEANING,
    OTHERS,
    PHASE,
    RECIPES,
    SPR,
    VOICE,
    Side,
    fold_result,
    other_metrics,
    publish,
)
from workers.ensembles import EnsembleStore, build_ensemble
from workers.evaluation import evaluate
from workers.results import PREDICTIONS, RESULT, ResultStore

RESAMPLES = 200
RATES = ("specificity", "sensitivity")
SIDES = pytest.mark.parametrize("side", OTHERS, ids=[side.metric for side in OTHERS])
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # predicted, labels, patients


def rates(predicted: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Sp and Se in percent, an abnormal cycle being hit by its exact class."""
    abnormal = labels > 0
    return 100 * np.mean(predicted[~abnormal] == 0), 100 * np.mean(predicted[abnormal] == labels[abnormal])


def by_sprsound(predicted: np.ndarray, labels: np.ndarray) -> float:
    sp, se = rates(predicted, labels)
    return float(np.mean([np.mean([sp, se]), stats.hmean([sp, se])]))


def by_icbhi4(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(rates(predicted, labels)))


def by_uar(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean([np.mean(predicted[labels == one] == one) for one in np.unique(labels)]))


VALUE: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda predicted, labels: 100 * float(np.mean(predicted == labels)),
    "uar": by_uar,
    "sprsound": by_sprsound,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return other_metrics(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def built(store: ResultStore) -> Leaderboard:
    return build_board(store, resamples=RESAMPLES)


def board_of(built: Leaderboard, side: Side) -> Board:
    return next(board for board in built.boards if board.data.dataset == side.dataset)


def ranking(built: Leaderboard, side: Side) -> Table:
    return table_of(board_of(built, side))


def stored(store: ResultStore, names: Iterable[str]) -> dict[int, list[Rows]]:
    """Seed -> the rows of the test side under the protocol `last`, a fold each."""
    found: dict[int, dict[int, Rows]] = {}
    for name in names:
        key, table = store.get(name).key, store.predictions(name)
        table = table.filter(np.asarray(table["protocol"]) == "last")
        rows = (
            np.array(table["logits"].to_pylist()).argmax(axis=1),
            np.array(table["label"]),
            np.array(table["patient"]),
        )
        found.setdefault(key.seed, {})[key.fold] = rows
    return {seed: [folds[fold] for fold in sorted(folds)] for seed, folds in sorted(found.items())}


def of_folds(side: Side, seeds: dict[int, list[Rows]], value: Callable[..., float] | None = None) -> np.ndarray:
    """The metric, ``[seeds, folds]``."""
    measure = value or VALUE[side.metric]
    return np.array([[measure(predicted, labels) for predicted, labels, _ in folds] for folds in seeds.values()])


@pytest.mark.slow
@SIDES
def test_a_table_ranks_by_its_own_metric_and_not_by_icbhi4(store: ResultStore, built: Leaderboard, side: Side):
    table = ranking(built, side)
    assert table.metric == side.metric
    assert len(table.entries) == len(LEANING) and not table.incomplete
    by_own, by_score = {}, {}
    for entry in table.entries:
        seeds = stored(store, entry.results)
        own = of_folds(side, seeds).mean(axis=1)
        assert entry.numbers.score.mean == pytest.approx(own.mean())
        assert entry.numbers.score.sd == pytest.approx(own.std(ddof=1))
        assert [row.score for row in entry.seeds] == pytest.approx(own)
        assert [row.fold_scores for row in entry.seeds] == [pytest.approx(row) for row in of_folds(side, seeds)]
        by_own[entry.id], by_score[entry.id] = own.mean(), of_folds(side, seeds, by_icbhi4).mean()
    order = [entry.id for entry in table.entries]
    assert order == sorted(order, key=lambda name: -by_own[name])
    assert order != sorted(order, key=lambda name: -by_score[name])
    assert [entry.rank for entry in table.entries] == list(range(1, 7))


def resampled(side: Side, entries: list[dict[int, list[Rows]]], resamples: int) -> np.ndarray:
    """``[entries, resamples]`` by a loop over patients, resamples, folds and seeds."""
    patients = [sorted(set(rows[2])) for rows in next(iter(entries[0].values()))]
    samples = np.full((len(entries), resamples), np.nan)
    for resample in range(resamples):
        for index, seeds in enumerate(entries):
            values = []
            for fold, names in enumerate(patients):
                drawn = bootstrap.draws(len(names), RESAMPLES, bootstrap.SEED + fold)[resample]
                of_seeds = []
                for folds in seeds.values():
                    predicted, labels, who = folds[fold]
                    rows = np.concatenate(
                        [np.tile(np.flatnonzero(who == name), int(n)) for name, n in zip(names, drawn, strict=True)]
                    )
                    whole = (
                        set(labels) if side.metric == "uar" else {False, True} if side.metric == "sprsound" else set()
                    )
                    here = set(labels[rows]) if side.metric == "uar" else set(labels[rows] > 0)
                    if whole <= here:
                        of_seeds.append(VALUE[side.metric](predicted[rows], labels[rows]))
                values += [np.mean(of_seeds)] if of_seeds else []
            samples[index, resample] = np.mean(values) if values else np.nan
    return samples


@pytest.mark.slow
@SIDES
def test_intervals_ranks_and_ties_equal_a_plain_loop(store: ResultStore, built: Leaderboard, side: Side):
    table = ranking(built, side)
    few = table.entries[:3]
    samples = resampled(side, [stored(store, entry.results) for entry in few], RESAMPLES)
    assert np.isfinite(samples).all()
    for entry, row in zip(few, samples, strict=True):
        ends = entry.numbers.score.low, entry.numbers.score.high
        assert ends == pytest.approx(np.percentile(row, [2.5, 97.5]), abs=1e-3)
    leader = few[0]
    for entry, row in zip(few[1:], samples[1:], strict=True):
        if entry.difference.other == leader.id:
            found = entry.difference.low, entry.difference.high
            assert found == pytest.approx(np.percentile(row - samples[0], [2.5, 97.5]), abs=1e-3)
            assert (entry.tied_with == leader.id) is (found[0] <= 0 <= found[1])
    assert few[1].difference.other == leader.id
    alone = build_board_of(store, few)
    ranks = np.stack([stats.rankdata(-column.round(3), method="min") for column in samples.T], axis=1)
    assert [entry.rank_low for entry in alone] == [np.quantile(row, 0.025, method="lower") for row in ranks]
    assert [entry.rank_high for entry in alone] == [np.quantile(row, 0.975, method="higher") for row in ranks]


def build_board_of(store: ResultStore, entries: list[Entry]) -> list[Entry]:
    """The same entries ranked without the others."""

    class Some(ResultStore):
        def census(self) -> tuple[list[str], list[str]]:
            return sorted(name for entry in entries for name in entry.results), []

    (board,) = build_board(Some(store.storage), resamples=RESAMPLES).boards
    return table_of(board).entries


@pytest.mark.slow
def test_folds_are_put_together_and_weighted_by_the_metric(store: ResultStore, built: Leaderboard):
    for entry in ranking(built, VOICE).entries:
        seeds = stored(store, entry.results)
        pooled = [
            VALUE["uar"](*(np.concatenate(part) for part in list(zip(*folds, strict=True))[:2]))
            for folds in seeds.values()
        ]
        assert entry.numbers.pooled_score.mean == pytest.approx(np.mean(pooled))
        cycles = [len(rows[1]) for rows in seeds[0]]
        weighted = np.average(of_folds(VOICE, seeds), axis=1, weights=cycles)
        assert entry.cycle_weighted.mean == pytest.approx(weighted.mean())
        assert entry.numbers.pooled_score.mean != pytest.approx(entry.numbers.score.mean)


@pytest.mark.parametrize("side", [PHASE, SPR], ids=["accuracy", "sprsound"])
def test_shared_patients_are_left_out_of_the_metric(store: ResultStore, built: Leaderboard, side: Side):
    for entry in ranking(built, side).entries:
        values = []
        for ((predicted, labels, patients),) in stored(store, entry.results).values():
            stay = patients != "103"
            values.append(VALUE[side.metric](predicted[stay], labels[stay]))
        assert entry.without_shared.mean == pytest.approx(np.mean(values))
        assert entry.without_shared.low < entry.without_shared.mean < entry.without_shared.high


@SIDES
def test_a_document_holds_what_the_metric_follows_from(store: ResultStore, built: Leaderboard, side: Side):
    entry = ranking(built, side).entries[0]
    found = Details(built, store).entry(entry)
    values = []
    for fold in found.hits:
        hits, cycles = np.sum(fold, axis=0).reshape(-1, 2).T
        sp, se = 100 * hits[::2] / cycles[::2], 100 * hits[1::2] / cycles[1::2]
        values.append(np.mean([sp, se, stats.hmean([sp, se]), stats.hmean([sp, se])])
                      if side.metric == "sprsound" else 100 * np.mean(hits / cycles))  # fmt: skip
    if side.metric == "sprsound":
        assert np.shape(found.hits)[2] == 4 * 2  # of two seeds, side by side
    assert np.mean(values) == pytest.approx(entry.numbers.score.mean)
    assert EntryDetail.model_validate_json(found.model_dump_json(by_alias=True)) == found
    shown = {"accuracy": 10.0, "uar": -10.0, "sprsound": 0.0}[side.metric]  # the made-up epochs' offset from the Score
    epochs = store.get(entry.results[0]).epochs
    assert found.curves[0].validation == [epoch["validation"]["score"] + shown for epoch in epochs]


@SIDES
def test_breakdowns_are_by_the_metric(store: ResultStore, built: Leaderboard, side: Side):
    entry = ranking(built, side).entries[0]
    found = Details(built, store).entry(entry).breakdowns
    seeds = [
        tuple(np.concatenate(part) for part in zip(*folds, strict=True))
        for folds in stored(store, entry.results).values()
    ]
    for one in found["patient"]:
        rows = seeds[0][2] == one.name
        labels = seeds[0][1][rows]
        assert one.cycles == len(labels)
        if side.metric == "sprsound" and len(set(labels > 0)) < 2:
            assert one.score is None
        else:
            values = [VALUE[side.metric](predicted[rows], labels) for predicted, _, _ in seeds]
            assert one.score == pytest.approx(np.mean(values))
        assert (one.specificity is None) == (side.metric != "sprsound" or 0 not in labels)
    for device in found["device"]:
        assert device.low < device.score < device.high


def test_a_stored_value_that_is_not_that_of_the_predictions_is_not_ranked(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    (name,) = publish(store, LEANING[0], PHASE, seeds=[0])
    path = tmp_path / name[:2] / name / RESULT
    content = json.loads(path.read_text())
    content["protocols"]["last"]["test"]["accuracy"] += 5.0  # the Score stays as it is
    path.write_text(json.dumps(content))
    table = ranking(build_board(store, resamples=50), PHASE)
    assert table.entries == []
    assert table.incomplete[0].note.startswith("stored accuracy")


def test_the_same_cycles_by_two_metrics_are_two_boards(tmp_path: Path):
    """Results from before the corpus had its metric stand on the usual one's board."""
    store = ResultStore.open(str(tmp_path))
    publish(store, LEANING[0], PHASE, seeds=[0])
    publish(store, LEANING[0], replace(PHASE, metric="icbhi4"), seeds=[1])
    built = build_board(store, resamples=50)
    assert [[table.metric for table in board.tables] for board in built.boards] == [["accuracy"] * 2, ["icbhi4"] * 2]
    assert len({board.id for board in built.boards}) == 2
    assert len({found.id for found in Details(built, store).documents({})}) == 4


def test_published_results_stand_only_beside_boards_of_their_metric(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(metric="accuracy"), seeds=[0])
    assert build_board(store, resamples=50).published == []
    publish(store, RECIPES[3], Side(), seeds=[0])
    assert len(build_board(store, resamples=50).published) > 40


def test_an_ensemble_is_ranked_by_the_metric(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    hashes = [name for recipe in LEANING[:2] for name in publish(store, recipe, PHASE, seeds=[0])]
    made = build_ensemble(store, hashes, method="score", protocol="last")
    (entry,) = [entry for entry in ranking(build_board(store, resamples=50), PHASE).entries if entry.kind == "ensemble"]
    predictions = EnsembleStore(store.storage).predictions(made.hash)
    metrics = evaluate(np.array(predictions["logits"].to_pylist()), np.array(predictions["label"]))
    assert entry.objective.label == "Weights by accuracy"
    assert metrics.accuracy != metrics.icbhi4.score
    assert entry.numbers.score.mean == entry.seeds[0].score == pytest.approx(metrics.accuracy)


@pytest.mark.slow
def test_the_search_orders_its_trials_by_the_metric(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    inner = replace(VOICE, split="first-fold-inner3")
    for recipe in LEANING[:5]:
        publish(store, recipe, inner, range(3), [0])
    table = next(table for table in build_board(store, resamples=50).search if table.protocol == "last")
    assert table.metric == "uar"
    found = {}
    for result in store.iterate():
        found.setdefault(result.key.config_hash, []).append(result.hash)
    for row in table.rows:
        (folds,) = stored(store, found[row.config_hash]).values()
        assert row.score == pytest.approx(of_folds(inner, {0: folds}).mean())
        together = [np.concatenate(part) for part in zip(*folds, strict=True)]
        assert row.pooled_score == pytest.approx(VALUE["uar"](*together[:2]))
    order = [row.score for row in table.rows]
    assert order == sorted(order, reverse=True)
    assert "| Mean UAR | Pooled | Folds |" in exports.to_markdown(build_board(store, resamples=50))


@pytest.mark.slow
def test_what_is_kept_gives_the_same_board(store: ResultStore, built: Leaderboard, tmp_path: Path):
    class NoPredictions(ResultStore):
        def predictions(self, result_hash: str, side: str = "test"):
            raise AssertionError(result_hash)

    first = build_board(store, resamples=RESAMPLES, cache=tmp_path, generated=built.generated)
    again = build_board(NoPredictions(store.storage), resamples=RESAMPLES, cache=tmp_path, generated=built.generated)
    assert first == again == built


@pytest.mark.slow
def test_the_terminal_shows_the_metric_and_the_numbers_of_its_table(
    built: Leaderboard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    numbers = {"breathing-phase": ("uar", "auroc"), "aicup-voice": ("accuracy", "auroc"), "sprsound": RATES}
    heads = {
        "breathing-phase": ["Accuracy", "95 %", "UAR", "AUROC"],
        "aicup-voice": ["UAR", "95 %", "Accuracy", "AUROC"],
        "sprsound": ["SPRSound Score", "95 %", "Sp", "Se"],
    }
    for board in built.boards:
        show(built.model_copy(update={"boards": [board]}))
        printed = capsys.readouterr().out
        head = next(line for line in printed.splitlines() if "objective" in line)
        assert [part.strip() for part in head.strip("┃ ").split("┃")][3:-1] == heads[board.data.dataset]
        best = ranking(built, next(side for side in OTHERS if side.dataset == board.data.dataset)).entries[0]
        cells = [line.split("│") for line in printed.splitlines() if best.config_hash[:8] in line][-1]
        of = [getattr(best.numbers, name).mean for name in ("score", *numbers[board.data.dataset])]
        found = [float(cells[index]) for index in (5, 7, 8)]
        assert found == pytest.approx(of, abs=0.051)
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], Side(), seeds=[0])
    show(build_board(store, resamples=50))
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("Score", "Sp", "Se")) and "AUROC" not in printed


def test_a_guess_is_what_calling_every_cycle_by_one_class_gets():
    confusion = [[30, 10], [5, 15]]
    labels = np.repeat([0, 1], [40, 20])
    normal = evaluate(np.eye(2)[np.zeros(60, int)], labels)
    for metric in ("icbhi4", "icbhi2", "accuracy", "uar", "sprsound", "sprsound_record"):
        assert chance(metric, ["inhale", "exhale"], confusion).value == pytest.approx(normal.value(metric))
    assert chance("accuracy", ["inhale", "exhale"], [[5, 5], [20, 30]]).text == "calling every cycle exhale"
    assert chance("uar", ["a", "b", "c"], [[5, 5, 0], [0, 0, 0], [1, 2, 3]]).value == 50.0


def test_where_the_metric_is_icbhi2_so_is_the_sensitivity(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    result, predictions = fold_result(LEANING[0], replace(SPR, metric="icbhi2"), 0, 0)
    store.publish(result, {PREDICTIONS: predictions})
    (entry,) = ranking(build_board(store, resamples=50), SPR).entries
    test = result.protocols["last"].test
    assert entry.numbers.score.mean == pytest.approx(test.icbhi2.score)
    assert entry.numbers.sensitivity.mean == pytest.approx(test.icbhi2.sensitivity)
