"""The study: what a killed driver leaves is taken up, what failed is not repeated, and one driver owns it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.studies.study import Study, TrialSummary
from search_spaces.overrides import merge
from search_spaces.schema import SearchSpace

CONTENT: dict[str, Any] = {
    "name": "study",
    "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
    "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
    "search": {"trials": 6, "startup_trials": 2, "pruner": {"name": "median", "startup_trials": 2}},
}


def space(**changes: Any) -> SearchSpace:
    return SearchSpace.parse(merge(CONTENT, changes))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings.load(tmp_path)


def test_a_trial_left_running_is_asked_for_again_first(home: Settings) -> None:
    study = Study(space(), home, 5)
    study.tell(study.ask().number, 50.0)
    lost = study.ask()  # and the driver is killed

    again = Study(space(), home, 5)
    assert again.take_up() == 1
    assert again.ended() == 1, "the lost trial does not count"
    assert again.ask().config == lost.config
    assert again.take_up() == 1, "and it may be lost twice"
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE, TrialState.WAITING]


@pytest.mark.slow
@pytest.mark.parametrize("search", [{}, {"cost": "parameters", "pruner": {"name": "none"}}])
def test_what_a_driver_leaves_in_a_database_is_taken_up(search: dict[str, Any], home: Settings) -> None:
    """A database has one series of numbers for the trials of all its studies: those of the first are not this one's."""
    database = replace(home, optuna=f"sqlite:///{home.home}/optuna.db")
    Study(space(name="first"), database, 5).ask()
    study = Study(space(search=search), database, 5)
    done, lost = study.ask(), study.ask()
    study.report(done.number, 40.0, 1)
    study.tell(done.number, 40.0, cost=1.0)
    study.report(lost.number, 50.0, 1)

    again = Study(space(search=search), database, 5)
    assert (again.take_up(), again.ended()) == (1, 1)
    assert again.ask().config == lost.config
    assert again.trial(done.number).intermediate_values == {1: 40.0}
    left = again.trial(lost.number)
    assert (left.state, left.intermediate_values) == (TrialState.FAIL, {1: 50.0})
    assert [trial.number for trial in again.trials()] == [done.number, 2]


def test_a_resumed_study_draws_other_configs(home: Settings) -> None:
    drawn = []
    for _ in range(5):  # a new driver for each trial
        study = Study(space(search={"sampler": "random"}), home, 5)
        asked = study.ask()
        drawn.append(asked.config.config_hash)
        study.tell(asked.number, 50.0)
    assert len(set(drawn)) == 5


def test_a_failed_trial_counts_and_is_never_best(home: Settings) -> None:
    study = Study(space(), home, 5)
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
    study = Study(space(), home, 5)
    numbers = [study.ask().number for _ in range(3)]
    for number, value in zip(numbers, (50.0, 60.0, 60.0), strict=True):
        study.tell(number, value)
    best = study.best()
    assert best is not None and best.number == numbers[1]


def test_a_pruned_trial_keeps_its_running_mean(home: Settings) -> None:
    study = Study(space(), home, 5)
    asked = study.ask()
    study.report(asked.number, 41.0, 1)
    study.report(asked.number, 43.0, 2)
    study.tell(asked.number, 43.0, pruned=True)
    described = TrialSummary.of(study.trials()[asked.number])
    assert (described.state, described.value, described.fold_runs) == ("PRUNED", 43.0, 2)
    assert study.best() is None


def test_two_drivers_never_own_one_study(home: Settings) -> None:
    with Study.lease(space(), home, 5), pytest.raises(UserError, match="another driver"), Study.lease(space(), home, 5):
        pass
    with Study.lease(space(name="other"), home, 5), Study.lease(space(), home, 5):
        pass


def test_a_database_that_is_not_there_is_an_error_a_reader_can_use(home: Settings) -> None:
    nowhere = replace(home, optuna="postgresql://user:secret@127.0.0.1:1/none")
    with pytest.raises(UserError, match="LUNGTUNE_OPTUNA") as caught:
        Study(space(), nowhere, 5)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random"])
def test_a_study_that_is_taken_up_draws_what_the_undisturbed_one_draws(sampler: str, tmp_path: Path) -> None:
    def value(config: Any) -> float:
        return 60 - abs(4 + math.log10(config.optim.lr)) * 10

    def run(folder: Path, restart_after: int | None) -> list[float]:
        settings, content = Settings.load(folder), space(search={"sampler": sampler})
        study = Study(content, settings, 5)
        drawn = []
        while len(drawn) < 8:
            asked = study.ask()
            if restart_after == len(drawn):  # killed in the middle of a trial
                restart_after = None
                study = Study(content, settings, 5)
                assert study.take_up() == 1
                continue
            study.tell(asked.number, value(asked.config))
            drawn.append(asked.config.optim.lr)
        return drawn

    undisturbed = run(tmp_path / "one", None)
    assert len(set(undisturbed)) == 8
    assert run(tmp_path / "two", 4) == pytest.approx(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_model_based_samplers_close_in_on_the_best(sampler: str, tmp_path: Path) -> None:
    two = {"optim.lr": {"log_float": [1e-4, 1e-2]}, "optim.weight_decay": {"log_float": [1e-6, 1e-2]}}
    content = space(space=two, search={"sampler": sampler, "startup_trials": 4})
    study = Study(content, Settings.load(tmp_path), 5)
    values = []
    for _ in range(24):
        asked = study.ask()
        lr, decay = math.log10(asked.config.optim.lr), math.log10(asked.config.optim.weight_decay)
        values.append(60 - 5 * abs(3 + lr) - 2 * abs(4 + decay))
        study.tell(asked.number, values[-1])
    assert sum(values[-8:]) / 8 > sum(values[:4]) / 4 and max(values) > 57


def two_objectives(home: Settings) -> Study:
    study = Study(space(search={"cost": "parameters", "pruner": {"name": "none"}}), home, 5)
    for value, cost in ((50.0, 10.0), (60.0, 30.0), (55.0, 30.0), (60.0, 20.0), (40.0, 5.0)):
        asked = study.ask()
        assert study.report(asked.number, value, 1) is False
        study.tell(asked.number, value, cost=cost)
    study.tell(study.ask().number, None, error="out of memory")
    return study


@pytest.mark.slow
def test_with_a_cost_the_pareto_set_holds_what_nothing_beats_in_both(home: Settings) -> None:
    study = two_objectives(home)
    assert [trial.number for trial in study.pareto()] == [3, 0, 4]
    best = study.best()
    assert best is not None and best.number == 1, "of equal Scores the first, whatever it costs"
    described = TrialSummary.of(study.trials()[3])
    assert (described.value, described.cost, described.fold_runs) == (60.0, 20.0, 1)
    assert Study(space(), home, 5).pareto() == [], "one objective has no Pareto set"


def test_a_study_with_a_cost_is_taken_up_as_any_other(home: Settings) -> None:
    lost = two_objectives(home).ask()  # and the driver is killed
    again = Study(space(search={"cost": "parameters", "pruner": {"name": "none"}}), home, 5)
    assert (again.take_up(), again.ended()) == (1, 6)
    assert again.ask().config == lost.config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"cost": "parameters"}}, "cannot be pruned"),
        ({"search": {"cost": "parameters", "sampler": "cmaes", "pruner": {"name": "none"}}}, "cmaes"),
        ({"promotion": {"pareto": True}}, "needs search.cost"),
        ({"search": {"cost": "parameters", "pruner": {"name": "none"}}, "budget": {"chance": 0.1}}, "budget.chance"),
    ],
)
def test_what_does_not_go_with_two_objectives_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(**changes)
