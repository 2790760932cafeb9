"""The study: what a killed driver leaves is taken up, what failed is not repeated, and one driver owns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.pruning import RunningMeanPruner, build_pruner
from orchestrator.study import Study
from search_spaces.schema import Pruner, SearchSpace, merge

CONTENT: dict[str, Any] = {
    "name": "study",
    "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
    "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
    "search": {"trials": 6, "startup_trials": 2, "pruner": {"startup_trials": 2, "after_folds": 2}},
}


def space(**changes: Any) -> SearchSpace:
    return SearchSpace.parse(merge(CONTENT, changes))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings.load(tmp_path)


def test_a_trial_left_running_is_asked_for_again_first(home: Settings) -> None:
    study = Study(space(), home)
    study.tell(study.ask().number, 50.0)
    lost = study.ask()  # and the driver is killed

    again = Study(space(), home)
    assert again.take_up() == 1
    assert again.ended() == 1, "the lost trial does not count"
    assert again.ask().config == lost.config
    assert again.take_up() == 1, "and it may be lost twice"
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE, TrialState.WAITING]


def test_a_resumed_study_draws_other_configs(home: Settings) -> None:
    drawn = []
    for _ in range(5):  # a new driver for each trial
        study = Study(space(search={"sampler": "random"}), home)
        asked = study.ask()
        drawn.append(asked.config.config_hash)
        study.tell(asked.number, 50.0)
    assert len(set(drawn)) == 5


def test_a_failed_trial_counts_and_is_never_best(home: Settings) -> None:
    study = Study(space(), home)
    good, bad, nan = study.ask(), study.ask(), study.ask()
    study.tell(good.number, 40.0)
    study.tell(bad.number, None, error="out of memory")
    study.tell(nan.number, float("nan"))
    assert study.ended() == 3
    best = study.best()
    assert best is not None and best.number == good.number
    assert study.trials()[bad.number].user_attrs["error"] == "out of memory"
    assert study.trials()[nan.number].state == TrialState.FAIL


def test_of_equal_trials_the_first_is_best(home: Settings) -> None:
    study = Study(space(), home)
    numbers = [study.ask().number for _ in range(3)]
    for number, value in zip(numbers, (50.0, 60.0, 60.0), strict=True):
        study.tell(number, value)
    best = study.best()
    assert best is not None and best.number == numbers[1]


def test_a_pruned_trial_keeps_its_running_mean(home: Settings) -> None:
    study = Study(space(), home)
    asked = study.ask()
    study.report(asked.number, 41.0, 1)
    study.report(asked.number, 43.0, 2)
    study.tell(asked.number, 43.0, pruned=True)
    described = study.describe(study.trials()[asked.number])
    assert (described["state"], described["value"], described["fold_runs"]) == ("PRUNED", 43.0, 2)
    assert study.best() is None


def test_two_drivers_never_own_one_study(home: Settings) -> None:
    with Study.lease(space(), home), pytest.raises(UserError, match="another driver"), Study.lease(space(), home):
        pass
    with Study.lease(space(name="other"), home), Study.lease(space(), home):
        pass


def test_a_database_that_is_not_there_is_an_error_a_reader_can_use(home: Settings) -> None:
    from dataclasses import replace

    nowhere = replace(home, optuna="postgresql://user:secret@127.0.0.1:1/none")
    with pytest.raises(UserError, match="LUNGTUNE_OPTUNA") as caught:
        Study(space(), nowhere)
    assert "secret" not in str(caught.value)


def _study_with(values: list[list[float]], pruner: optuna.pruners.BasePruner) -> optuna.Study:
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for means in values:
        trial = study.ask()
        for step, value in enumerate(means, start=1):
            trial.report(value, step)
        study.tell(trial, means[-1])
    return study


@pytest.mark.parametrize(
    ("means", "pruned"),
    [
        ([70.0, 49.0], True),  # a lucky first fold does not save it: the median after two folds is 50
        ([30.0, 51.0], False),
        ([50.0, 50.0], False),  # no worse than the median
    ],
)
def test_running_means_are_compared_over_the_same_folds(means: list[float], pruned: bool) -> None:
    study = _study_with([[40.0, 45.0, 47.0], [50.0, 50.0, 52.0], [60.0, 55.0, 51.0]], RunningMeanPruner(50, 3, 2))
    trial = study.ask()
    trial.report(means[0], 1)
    assert not trial.should_prune(), "every trial gets its first folds"
    trial.report(means[1], 2)
    assert trial.should_prune() is pruned


def test_nothing_is_pruned_before_enough_trials_are_complete() -> None:
    study = _study_with([[50.0, 50.0]], RunningMeanPruner(50, 2, 1))
    trial = study.ask()
    trial.report(1.0, 1)
    assert not trial.should_prune()


def test_the_percentile_is_the_share_that_goes_on() -> None:
    values = [[float(value)] * 2 for value in range(10, 110, 10)]
    strict, mild = (_study_with(values, build_pruner(Pruner(name="percentile", percentile=p))) for p in (20, 80))
    for study, expected in ((strict, True), (mild, False)):
        trial = study.ask()
        trial.report(60.0, 2)
        assert trial.should_prune() is expected
    trial = _study_with(values, build_pruner(Pruner(name="none"))).ask()
    trial.report(0.0, 2)
    assert not trial.should_prune()
