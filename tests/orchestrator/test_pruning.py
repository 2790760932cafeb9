"""Rules that stop a trial between folds, and recorded sweeps played back under them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import norm

from benchmarks.pruning_replay import compare, replay
from orchestrator.pruning import EndedTrials, FoldPruner, History, Rule
from orchestrator.pruning.halving import Halving
from orchestrator.pruning.percentile import RunningMean
from orchestrator.pruning.racing import Racing, Spread, spread_of
from orchestrator.pruning.wilcoxon import Wilcoxon
from search_spaces.pruners import HalvingPruner, MedianPruner, PercentilePruner, RacingPruner, WilcoxonPruner


def median(after_folds: int = 1, **settings: Any) -> RunningMean:
    return RunningMean(MedianPruner(after_folds=after_folds, **settings))


def percentile(share: float) -> RunningMean:
    return RunningMean(PercentilePruner(name="percentile", percentile=share, after_folds=1))


def halving(after_folds: int = 1, **settings: Any) -> Halving:
    return Halving(HalvingPruner(name="halving", after_folds=after_folds, **settings))


def wilcoxon(**settings: Any) -> Wilcoxon:
    return Wilcoxon(WilcoxonPruner(name="wilcoxon", after_folds=1, **settings))


def racing(**settings: Any) -> Racing:
    return Racing(RacingPruner(name="racing", after_folds=1, **settings))


def complete(*rows: list[float], pruned: tuple[list[float], ...] = ()) -> History:
    past = History(len(rows[0]) if rows else 2)
    for row in rows:
        past.add(row, True)
    for row in pruned:
        past.add(row, False)
    return past


def made_up(configs: int, folds: int = 5, config: float = 4.0, fold: float = 6.0, noise: float = 2.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    effects = 50 + rng.normal(0, fold, folds) + rng.normal(0, config, (configs, 1))
    return effects + rng.normal(0, noise, (configs, folds))


# --- one rule after the other ---


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([70.0, 28.0], True),  # a lucky first fold does not save it: the median after two folds is 50
        ([30.0, 72.0], False),
        ([50.0, 50.0], False),  # no worse than the median
    ],
)
def test_running_means_are_compared_over_the_same_folds(values: list[float], stops: bool) -> None:
    past = complete([40.0, 50.0, 51.0], [50.0, 50.0, 56.0], [60.0, 50.0, 43.0])
    rule = median(after_folds=2, startup_trials=3)
    assert not rule.stops(values[:1], past), "every trial gets its first folds"
    assert rule.stops(values, past) is stops


def test_nothing_is_stopped_before_enough_trials_are_complete_or_after_the_last_fold() -> None:
    past = complete([50.0, 50.0], pruned=([60.0],))
    assert not median(startup_trials=2).stops([1.0], past)
    assert median(startup_trials=1).stops([1.0], past)
    assert not median(startup_trials=1).stops([1.0, 1.0], past)
    assert not median(startup_trials=0).stops([1.0], complete()), (
        "without any complete trial there is nothing to compare"
    )


def test_the_percentile_is_the_share_that_goes_on() -> None:
    past = complete(*[[float(value)] * 2 for value in range(10, 110, 10)])
    assert percentile(20).stops([60.0], past)
    assert not percentile(80).stops([60.0], past)


def test_halving_lets_the_best_half_of_a_rung_pass() -> None:
    rule = halving(startup_trials=1, reduction=2.0)
    assert rule.rungs(5) == [1, 2, 4] and rule.rungs(9) == [1, 2, 4, 8] and halving(after_folds=2).rungs(5) == [2, 4]
    past = complete([50.0] * 5, [60.0] * 5, pruned=([40.0], [30.0]))
    assert not rule.stops([55.0], past)
    assert rule.stops([45.0], past), "two of five are better, and two may pass"
    assert not rule.stops([45.0, 45.0, 45.0], past), "three folds are no rung"


def test_wilcoxon_needs_as_many_folds_as_its_level_says() -> None:
    past = complete([60.0, 61.0, 62.0, 63.0, 64.0], [50.0] * 5)
    worse = [40.0, 42.0, 41.0, 44.0]
    rule = wilcoxon(startup_trials=1, p=0.1)
    assert rule.earliest == 4 and wilcoxon(p=0.05).earliest == 5 and wilcoxon(p=0.5).earliest == 1
    assert [rule.stops(worse[:done], past) for done in (1, 2, 3, 4)] == [False, False, False, True]
    assert not rule.stops([61.0, 60.0, 63.0, 62.0], past) and not rule.stops([60.0, 61.0, 62.0, 63.0], past)


# --- racing ---


def test_the_chance_to_win_is_what_simulation_finds() -> None:
    """Against a Monte Carlo of the same model: effect from its posterior, later folds with their own noise."""
    spread = Spread(np.array([3.0, -1.0, 0.5, -2.5]), mean=50.0, variance=9.0, noise=4.0)
    values, best = np.array([56.0, 51.0]), 53.0
    rng = np.random.default_rng(0)
    draws = 400_000
    effect = rng.normal(50.0, 3.0, draws)
    likelihood = np.prod([norm.pdf(v, f + effect, 2.0) for v, f in zip(values, spread.folds[:2], strict=True)], axis=0)
    later = spread.folds[2:] + effect[:, None] + rng.normal(0, 2.0, (draws, 2))
    wins = (values.sum() + later.sum(axis=1)) / 4 > best
    expected = float((likelihood * wins).sum() / likelihood.sum())
    assert Racing.chance_to_win(values, best, spread) == pytest.approx(expected, abs=0.01)
    assert Racing.chance_to_win(values[:0], best, spread) == pytest.approx(float(norm.sf(3 / np.sqrt(9 + 1))), abs=1e-9)


def test_spreads_are_recovered_from_many_trials_pruned_ones_included() -> None:
    values = made_up(4000, config=4.0, noise=2.0, seed=2)
    past = History(5)
    for number, row in enumerate(values):
        past.add(row if number % 2 else row[: 1 + number % 5], bool(number % 2))
    spread = spread_of(past)
    assert spread.noise == pytest.approx(4.0, rel=0.08) and spread.variance == pytest.approx(16.0, rel=0.1)
    assert np.allclose(spread.folds, values.mean(axis=0) - values.mean(), atol=0.3)


@pytest.mark.parametrize("rows", [[[50.0] * 3], [[50.0] * 3, [50.0] * 3], [[50.0, 40.0, 30.0]]])
def test_racing_stands_trials_that_do_not_spread(rows: list[list[float]]) -> None:
    rule = racing(startup_trials=1)
    assert rule.stops([10.0], complete(*rows)) and not rule.stops([90.0], complete(*rows))


# --- replay ---


def test_without_a_rule_every_fold_is_run_and_the_best_is_kept() -> None:
    ended = replay(made_up(20), None)
    assert (ended.fold_runs, ended.of, ended.best_kept, ended.regret) == (100, 100, True, 0.0)


def test_a_replay_counts_what_the_rule_spares() -> None:
    values = np.array([[60.0, 60.0, 60.0], [10.0, 99.0, 99.0], [61.0, 61.0, 61.0]])
    ended = replay(values, median(startup_trials=1))
    assert (ended.fold_runs, ended.best_kept) == (7, False), "the second was stopped at its bad first fold"
    assert ended.regret == pytest.approx((10 + 99 + 99) / 3 - 61)
    side_by_side = replay(values, median(startup_trials=1), at_once=3)
    assert (side_by_side.fold_runs, side_by_side.best_kept) == (9, True), "nothing had ended that could be compared"


@pytest.mark.slow
def test_racing_spends_little_and_keeps_the_best() -> None:
    """The goal of the design: at most 40 % of the fold runs, the best config kept in at least 95 % of sweeps."""
    recorded = [made_up(60, seed=seed) for seed in range(150)]
    ended = [replay(values, racing()) for values in recorded]
    assert sum(one.fold_runs for one in ended) / sum(one.of for one in ended) <= 0.40
    assert np.mean([one.best_kept for one in ended]) >= 0.95


@pytest.mark.slow
def test_equal_seeds_give_every_rule_the_same_sweeps() -> None:
    recorded = made_up(50)
    rules: list[Rule[Any] | None] = [None, median(), racing()]
    first, again = ([compare(recorded, rule, sweeps=20, trials=20, seed=3) for rule in rules] for _ in range(2))
    assert first == again and first[0].fold_runs == 1.0 and all(one.fold_runs < 1 for one in first[1:])


# --- through Optuna ---


def test_a_pruner_sees_fold_values_behind_running_means() -> None:
    seen: list[Any] = []

    class Spy(Rule[MedianPruner]):
        def judge(self, values: np.ndarray, past: History) -> bool:
            seen.append((values.tolist(), past.values.copy(), past.whole.copy()))
            return True

    study = optuna.create_study(
        direction="maximize", pruner=FoldPruner(Spy(MedianPruner(startup_trials=1, after_folds=1)), EndedTrials(3))
    )
    for values, state in (([40.0, 50.0, 60.0], TrialState.COMPLETE), ([30.0], TrialState.PRUNED)):
        trial = study.ask()
        for step in range(1, len(values) + 1):
            trial.report(float(np.mean(values[:step])), step)
        study.tell(trial, float(np.mean(values)) if state == TrialState.COMPLETE else None, state=state)
    trial = study.ask()
    trial.report(35.0, 1)
    trial.report(40.0, 2)
    assert trial.should_prune()
    values, past, whole = seen[-1]
    assert values == pytest.approx([35.0, 45.0])
    assert np.allclose(past, [[40.0, 50.0, 60.0], [30.0, np.nan, np.nan]], equal_nan=True)
    assert np.allclose(whole, [[40.0, 50.0, 60.0]])


@pytest.mark.parametrize("by_family", [False, True])
def test_a_family_whose_best_is_wanted_is_stopped_by_its_own_trials_alone(by_family: bool) -> None:
    """All of one family's trials lie below the other's; its better one goes on, where it is its own to beat."""
    pruner = FoldPruner(median(after_folds=1, startup_trials=1), EndedTrials(2), by_family=by_family)
    study = optuna.create_study(direction="maximize", pruner=pruner)

    def start(family: str, *values: float) -> optuna.Trial:
        trial = study.ask()
        trial.set_user_attr("family", family)
        for step, mean in enumerate(np.cumsum(values) / np.arange(1, len(values) + 1), start=1):
            trial.report(float(mean), step)
        return trial

    for family, value in (("large", 60.0), ("small", 40.0)):
        study.tell(start(family, value, value), value)
    study.tell(start("large", 62.0, 62.0), 62.0)
    assert start("small", 45.0).should_prune() is not by_family
    assert start("small", 35.0).should_prune(), "worse than its own family, too"
