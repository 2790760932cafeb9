"""Settings of pruning rules and samplers: each has its own alone, and a study keeps its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import UserError
from search_spaces.pruners import PRUNERS, MedianPruner, RacingPruner, RulePart
from search_spaces.samplers import SAMPLERS
from search_spaces.schema import Search, SearchSpace
from tests.conftest import Run

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.yaml"
CONTENT: dict[str, Any] = {
    "name": "s",
    "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
    "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
}
SETTINGS = {
    "percentile": {"percentile": 10.0},
    "halving": {"reduction": 3.0},
    "wilcoxon": {"p": 0.05},
    "racing": {"share": 0.5},
}


def space(**search: Any) -> SearchSpace:
    return SearchSpace.parse({**CONTENT, "search": search})


@pytest.mark.parametrize("name", [name for name in PRUNERS.own if name != "none"])
def test_a_rule_takes_its_own_settings_and_refuses_those_of_every_other(name: str) -> None:
    own = SETTINGS.get(name, {})
    taken = space(pruner={"name": name, "after_folds": 1, "startup_trials": 7, **own}).search.pruner
    assert isinstance(taken, RulePart)
    assert taken.model_dump() == {"name": name, "after_folds": 1, "startup_trials": 7, **own}
    for rule, settings in SETTINGS.items():
        for key in settings if rule != name else ():
            with pytest.raises(UserError, match=f"search.pruner: '{key}' is a setting of {rule} and not of {name}"):
                space(pruner={"name": name, **settings})


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"pruner": {"name": "racing", "shares": 0.1}}, "unknown key 'search.pruner.shares' (did you mean 'share'?"),
        ({"pruner": {"name": "racing", "percentile": 10}}, "(known: after_folds, share, startup_trials)"),
        ({"pruner": {"percentile": 10}}, "of percentile and not of median (known: after_folds, startup_trials)"),
        ({"pruner": {"name": "none", "after_folds": 1}}, "not of none (it has no settings: write {name: none})"),
        ({"pruner": {"name": "rasing"}}, "did you mean 'racing'?"),
        ({"pruner": {"name": "racing", "share": 5}}, "'search.pruner.share' = 5: input should be less than 1"),
        ({"pruner": {"name": "racing", "share": True}}, "share is a number"),
        ({"pruner": "racing"}, "'search.pruner' = 'racing'"),
        ({"sampler": "cmaess"}, "did you mean 'cmaes'?"),
        ({"sampler": {"name": "tpe", "seed": 1}}, "unknown key 'search.sampler.seed'"),
        (
            {"sampler": "cmaes", "cost": "parameters", "pruner": {"name": "none"}},
            "cmaes takes one objective: use tpe, gp, qmc or random with a cost",
        ),
        ({"cost": "parameters"}, "set pruner to {name: none}"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(search: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        space(**search)
    assert said in str(caught.value)


def test_the_command_refuses_a_setting_of_another_rule(run: Run) -> None:
    code, _, told = run("plan", str(DEMO), "--set", "search.pruner.percentile=10")
    assert code == 2 and "'percentile' is a setting of percentile and not of racing" in told
    for changed in ("search.pruner.name=halving", "search.pruner={name: none}"):
        assert SearchSpace.load(DEMO, [changed]).search.pruner.name in changed


STUDIES: list[tuple[dict[str, Any], str]] = [
    ({}, "s-175110db63"),
    ({"pruner": {}}, "s-175110db63"),
    ({"pruner": {"name": "median"}}, "s-175110db63"),
    ({"pruner": {"startup_trials": 2, "after_folds": 2}}, "s-b89c1de003"),
    ({"pruner": {"name": "none"}}, "s-a5cf5c7ef2"),
    ({"pruner": {"name": "percentile"}}, "s-99f228e1ed"),
    ({"pruner": {"name": "percentile", "percentile": 10, "after_folds": 1}}, "s-986933102c"),
    ({"pruner": {"name": "halving", "reduction": 3}}, "s-59bcb67be8"),
    ({"pruner": {"name": "wilcoxon", "p": 0.05}}, "s-c413aeb9cc"),
    ({"pruner": {"name": "racing"}}, "s-c2905b4e3b"),
    ({"pruner": {"name": "racing", "share": 0.2}}, "s-c2905b4e3b"),
    ({"pruner": {"name": "racing", "share": 0.5, "startup_trials": 4}}, "s-ed3064096f"),
    ({"sampler": "tpe", "startup_trials": 8}, "s-175110db63"),
    ({"sampler": {"name": "tpe"}, "startup_trials": 3}, "s-2c39a293be"),
    ({"sampler": "gp"}, "s-a8bfc1c03d"),
    ({"sampler": "random"}, "s-6cdb30c323"),
    ({"sampler": {"name": "cmaes"}, "startup_trials": 4, "seed": 3}, "s-1ed526f3f7"),
]


@pytest.mark.parametrize(("search", "name"), STUDIES)
def test_a_study_is_found_under_the_name_of_the_version_before(search: dict[str, Any], name: str) -> None:
    """The names are those that were given when the settings of all rules stood side by side in one class."""
    assert space(**search).study_name == name


def test_a_search_reads_back_what_it_writes() -> None:
    for sampler in SAMPLERS.own:
        search = Search(sampler=sampler)  # type: ignore[arg-type]
        assert search.model_dump(mode="json")["sampler"] == sampler
        assert Search.model_validate(search.model_dump(mode="json")) == search
    racing = Search(pruner=RacingPruner(name="racing", share=0.3))
    assert racing.model_dump(mode="json")["pruner"] == {
        "name": "racing", "startup_trials": 4, "after_folds": 2, "share": 0.3,
    }  # fmt: skip
    assert Search.model_validate(racing.model_dump(mode="json")) == racing
    assert Search() == Search(pruner=MedianPruner())
