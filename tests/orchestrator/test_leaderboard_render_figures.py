"""Geometry of the figures: every mark where its number is, and a front that nobody beats."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.analysis.items import Reliability, ReliabilityBin
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.schema import ChampionChange, Curve, Leaderboard, Table
from orchestrator.leaderboard.site import figures, pareto
from tests.support.leaderboard_results import realistic


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return build_board(realistic(tmp_path_factory.mktemp("results")), resamples=200)


@pytest.fixture(scope="module")
def table(board: Leaderboard) -> Table:
    return next(table for table in board.boards[0].tables if table.protocol == "last")


def grown(table: Table, minutes: list[float], scores: list[float]) -> Table:
    """Entries of these costs and Scores, best first."""
    made = []
    for index, (cost, score) in enumerate(zip(minutes, scores, strict=True)):
        copy = table.entries[0].model_copy(deep=True, update={"id": f"{index:012x}"})
        copy.cost.train_minutes = cost
        copy.numbers.score.mean = score
        made.append(copy)
    return table.model_copy(update={"entries": sorted(made, key=lambda entry: -entry.numbers.score.mean)})


@pytest.mark.parametrize("values", [[50, 57.3, 61.2], [49.9, 50.1], [0, 100], [55.0]])
def test_axes_are_round_and_hold_their_values(values: list[float]):
    axis = figures.linear_axis(values)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert [at for at, _ in axis.ticks] == sorted({at for at, _ in axis.ticks})
    assert (axis.ticks[0][0], axis.ticks[-1][0]) == (0, 100)
    assert 3 <= len(axis.ticks) <= 12
    for at, text in axis.ticks:
        assert axis.place(float(text)) == pytest.approx(at, abs=0.01)


@pytest.mark.parametrize(
    ("count", "text"),
    [(993_485, "993 k"), (87_800_000, "87.8 M"), (999_950, "1 M"), (512, "512"), (1_000, "1 k"), (2.5e9, "2.5 G")],
)
def test_short_counts(count: float, text: str):
    assert figures.short_count(count) == text


@pytest.mark.slow
def test_the_forest_holds_every_entry_with_its_interval(table: Table):
    tree = figures.forest(table)
    assert [mark.id for mark in tree.marks] == [entry.id for entry in table.entries]
    for mark in tree.marks:
        assert 0 <= mark.low < mark.at < mark.high <= 100
    assert figures.forest(table.model_copy(update={"entries": table.entries[:1]})) is None


@pytest.mark.slow
def test_a_guess_lies_where_its_number_is(table: Table):
    tree = figures.forest(table)
    assert tree.guess == figures.Guess(tree.axis.place(50.0), "50", "calling every cycle normal")
    by_accuracy = table.model_copy(update={"metric": "accuracy"})
    share = max(sum(row) for row in table.entries[0].confusion) / 920 / 3
    assert figures.forest(by_accuracy).guess.value == f"{100 * share:.3g}"
    assert figures.guess(table, figures.Axis(60.0, 80.0, ())) is None


def test_costs_are_drawn_in_their_order(table: Table):
    plots = {plot.cost.key: plot for plot in pareto.plots(table)}
    assert set(plots) == {"minutes", "parameters"}  # trained on a CPU: no GPU hours
    for key, of in (("minutes", lambda e: e.cost.train_minutes), ("parameters", lambda e: e.model.parameters)):
        costs = {entry.id: of(entry) for entry in table.entries}
        by_place = sorted(plots[key].marks, key=lambda mark: mark.x)
        assert [costs[mark.id] for mark in by_place] == sorted(costs.values())
        assert all(0 < mark.x < 100 and 0 <= mark.at <= 100 for mark in by_place)
    assert pareto.plots(table.model_copy(update={"entries": table.entries[:1]})) == []


def test_the_legend_names_every_family_of_a_colour(table: Table):
    few = table.model_copy(deep=True)
    for entry, (family, label) in zip(few.entries, [("vgg", "VGG"), ("ensemble", "Ensemble of 2")], strict=False):
        entry.model.family, entry.model.label = family, label
    legend = dict(pareto.plots(few)[0].families)
    assert legend["f-other"] == "Ensemble, VGG"
    assert legend["f-mn"] == "MobileNet"


def test_nobody_beats_the_front_and_the_front_beats_all_others(table: Table):
    minutes, scores = [1.0, 2, 2, 4, 8, 8, 3], [50.0, 55, 54, 53, 60, 60, 55]
    made = grown(table, minutes, scores)
    plot = pareto.plots(made)[0]
    best = {mark.id for mark in plot.marks if mark.front}
    cost = {entry.id: entry.cost.train_minutes for entry in made.entries}
    score = {entry.id: entry.numbers.score.mean for entry in made.entries}
    assert best == {f"{index:012x}" for index in (0, 1, 4)}
    for other in set(cost) - best:
        assert any(cost[one] <= cost[other] and score[one] >= score[other] for one in best)
    for one, other in itertools.permutations(best, 2):
        assert not (cost[one] <= cost[other] and score[one] >= score[other])
    heights = [y for _, y, _, _ in plot.steps]
    assert heights == sorted(heights) and plot.steps[-1][2] == 100.0


@pytest.mark.slow
def test_of_very_many_entries_the_front_is_always_drawn(table: Table):
    minutes = [1.0 + index for index in range(1000)]
    made = grown(table, minutes, [60 - 0.001 * index for index in range(999)] + [61.0])
    plot = pareto.plots(made)[0]
    assert len(plot.marks) == pareto.POINTS + 2 and plot.left_out == 698
    assert {mark.id for mark in plot.marks if mark.front} == {f"{0:012x}", f"{999:012x}"}


def test_curves_reach_from_the_first_epoch_to_the_last_and_mark_the_chosen_one():
    curve = Curve(seed=1, fold=0, chosen=2, validation=[50.0, 58.0, 54.0], train_loss=[1.0, 0.5, 0.2])
    found = figures.curves([curve], "uar")
    assert found.name == "UAR of the held-out patients by epoch"
    (line,) = found.lines
    places = [tuple(map(float, point.split(","))) for point in line.points.split()]
    assert [x for x, _ in places] == [0, 50, 100]
    assert line.chosen == pytest.approx(places[1])
    assert places[1][1] < places[2][1] < places[0][1]  # y runs downwards
    assert figures.curves([Curve(seed=1, fold=0, chosen=1, validation=[50.0], train_loss=[1.0])], "icbhi4") is None
    losses = figures.losses([Curve(seed=1, fold=0, chosen=2, validation=[], train_loss=[0.31, 0.30])])
    assert losses.y.high - losses.y.low < 0.1


def test_reliability_bars_stand_where_their_bins_are():
    bins = [
        ReliabilityBin(low=0.4, high=0.6, confidence=0.5, accuracy=0.3, cycles=10),
        ReliabilityBin(low=0.8, high=1.0, confidence=0.9, accuracy=0.8, cycles=40),
    ]
    drawn = figures.reliability(Reliability(bins=bins, ece=12.0, mce=20.0))
    assert [(bar.left, bar.width, bar.accuracy) for bar in drawn.bars] == [
        pytest.approx((40.0, 20.0, 30.0)),
        pytest.approx((80.0, 20.0, 80.0)),
    ]
    assert [bar.share for bar in drawn.bars] == [0.25, 1.0]


def test_champions_follow_each_other_in_time():
    def change(model: str, version: str, when: str, score: float | None, metric: str = "icbhi4") -> ChampionChange:
        return ChampionChange(model=model, version=version, when=when, reason="", score=score, metric=metric)

    history = figures.champions(
        [
            change("a", "1", "2026-01-01T00:00:00+00:00", 50.0),
            change("b", "1", "2026-01-05T00:00:00+00:00", None),
            change("c", "1", "2026-01-05T00:00:00+00:00", 40.0),
            change("c", "2", "2026-01-06T00:00:00+00:00", 71.0, "accuracy"),
            change("c", "3", "2026-01-07T00:00:00+00:00", 73.0, "accuracy"),
            change("a", "2", "2026-01-02T00:00:00+00:00", 54.0),
            change("a", "3", "2026-01-11T00:00:00+00:00", 52.0),
        ]
    )
    assert list(history) == ["a", "b", "c"]
    first, second, third = history["a"].points
    assert (second.x - first.x) / (third.x - first.x) == pytest.approx(0.1)
    assert second.at > third.at > first.at
    assert history["b"].y is None and len(history["b"].changes) == 1
    assert history["c"].metric == "accuracy" and len(history["c"].changes) == 3
    assert [point.change.score for point in history["c"].points] == [71.0, 73.0], "no Score is joined to an accuracy"
