"""What finished studies teach the next."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from feature_store.settings import Settings
from orchestrator.studies.importance import importances
from orchestrator.studies.study import Study
from search_spaces.overrides import merge
from search_spaces.schema import SearchSpace
from tests.conftest import Run

CONTENT: dict[str, Any] = {
    "name": "first",
    "base": {"feature": "fbank-small", "objective": {"name": "ce"}},
    "families": {
        "cnn": {
            "base": {"model": {"name": "cnn6"}},
            "space": {"optim.lr": {"log_float": [1e-5, 1e-1]}, "objective.label_smoothing": {"float": [0.0, 0.3]}},
        },
        "crnn": {"base": {"model": {"name": "crnn"}}, "space": {"optim.lr": {"log_float": [1e-5, 1e-1]}}},
    },
    "search": {"trials": 20, "sampler": "random"},
}


def value_of(config: Any) -> float:
    """Only the learning rate matters."""
    return 60 - 8 * abs(3 + math.log10(config.optim.lr)) - (5 if config.model.name == "crnn" else 0)


def run_study(settings: Settings, trials: int = 40, **changes: Any) -> Study:
    study = Study(SearchSpace.parse(merge(CONTENT, changes)), settings, 5)
    for _ in range(trials):
        asked = study.ask()
        study.tell(asked.number, value_of(asked.config))
    return study


@pytest.mark.slow
def test_a_warm_start_begins_with_the_best_that_fits(settings: Settings) -> None:
    first = run_study(settings)
    narrow = {"cnn": {"space": {"optim.lr": {"log_float": [1e-4, 1e-2]}}}}
    space = SearchSpace.parse(merge(CONTENT, {"name": "second", "families": narrow, "search": {"warm_start": 3}}))
    second = Study(space, settings, 5)
    drawn = [second.ask() for _ in range(4)]
    order = sorted(first.trials(), key=lambda trial: -(trial.value or 0))[:3]
    wanted = [trial.params[f"{trial.user_attrs['family']}:optim.lr"] for trial in order]
    assert [asked.config.optim.lr for asked in drawn[:3]] == pytest.approx(wanted)
    assert [asked.family for asked in drawn[:3]] == [trial.user_attrs["family"] for trial in order]
    assert drawn[3].config.optim.lr not in wanted
    again = Study(space, settings, 5)
    assert again.ask().config.optim.lr not in wanted, "a study that has begun is not begun again"


@pytest.mark.slow
def test_what_was_scored_otherwise_or_lies_outside_does_not_count(settings: Settings) -> None:
    run_study(settings)
    elsewhere = {"name": "other", "evaluation": {"metric": "icbhi2"}, "search": {"warm_start": 3}}
    assert not Study(SearchSpace.parse(merge(CONTENT, elsewhere)), settings, 5).study.get_trials()
    far = {"cnn": {"space": {"optim.lr": {"log_float": [0.5, 0.9]}}}}
    only = {"name": "far", "families": {**far}, "search": {"warm_start": 40}}
    content = merge(CONTENT, only)
    del content["families"]["crnn"]
    queued = Study(SearchSpace.parse(content), settings, 5).study.get_trials()
    assert queued and all(set(t.system_attrs["fixed_params"]) == {"cnn:objective.label_smoothing"} for t in queued)


@pytest.mark.slow
def test_the_parameter_that_decides_is_told_family_by_family(settings: Settings, run: Run) -> None:
    study = run_study(settings, trials=80)
    found = importances("first", settings)
    assert set(found) == {"cnn", "crnn"}
    assert found["cnn"]["optim.lr"] > 3 * found["cnn"]["objective.label_smoothing"]
    code, printed, _ = run("importance", study.name, "--json")
    assert code == 0 and json.loads(printed) == found


def test_too_few_trials_tell_nothing(settings: Settings, run: Run) -> None:
    run_study(settings, trials=3)
    code, _, error = run("importance", "first")
    assert code == 2 and "complete trials" in error
