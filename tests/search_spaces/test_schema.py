"""Search spaces: what is refused, what is asked of Optuna, and what names a study."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import optuna
import pytest

from feature_store.errors import UserError
from feature_store.yaml_files import read_yaml
from search_spaces.overrides import merge, override
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

CONTENT: dict[str, Any] = {
    "name": "small",
    "base": {
        "feature": "fbank-small",
        "model": {"name": "ast", "size": "tiny", "stride": 16},
        "objective": {"name": "ce"},
        "training": {"epochs": 2},
    },
    "space": {
        "optim.lr": {"log_float": [1e-4, 1e-2]},
        "training.batch_size": {"int": [4, 16], "step": 4},
        "objective.name": {"choice": ["ce", "patchmix_cl"]},
        "objective.alpha": {"float": [0.0, 2.0], "when": {"objective.name": "patchmix_cl"}},
    },
}


def content(**changes: Any) -> dict[str, Any]:
    return merge(copy.deepcopy(CONTENT), changes)


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        SearchSpace.parse(content(**changes))
    return str(caught.value)


def searched(**parameters: Any) -> dict[str, Any]:
    """The content with other parameters of those names."""
    return {
        **content(),
        "space": {**CONTENT["space"], **{name.replace("__", "."): p for name, p in parameters.items()}},
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_are_valid_and_suggest_configs(path: Path) -> None:
    space = SearchSpace.load(path)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    families = set()
    for _ in range(30):
        family, suggested = space.suggest(study.ask())
        ExperimentConfig.parse(suggested)
        families.add(family)
    assert families == set(space.family_names)


def test_a_conditional_parameter_exists_only_under_its_condition() -> None:
    space = SearchSpace.parse(content())
    with_alpha, without = (
        space.suggest(optuna.trial.FixedTrial({"optim.lr": 1e-3, "training.batch_size": 8, **given}))[1]
        for given in ({"objective.name": "patchmix_cl", "objective.alpha": 0.5}, {"objective.name": "ce"})
    )
    assert with_alpha["objective"] == {"name": "patchmix_cl", "alpha": 0.5}
    assert without["objective"] == {"name": "ce"}


def test_values_stay_inside_their_ranges() -> None:
    space = SearchSpace.parse(content())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(50):
        suggested = space.suggest(study.ask())[1]
        assert 1e-4 <= suggested["optim"]["lr"] <= 1e-2
        assert suggested["training"]["batch_size"] in {4, 8, 12, 16}


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ({"choice": []}, "the list of choices is empty"),
        ({"choice": [[1, 2]]}, "plain values"),
        ({"choice": [1, 1]}, "appears twice"),
        ({"float": [1.0, 0.5]}, "low must be below high"),
        ({"float": [1.0]}, "two numbers"),
        ({"float": ["a", "b"]}, "two numbers"),
        ({"log_float": [0.0, 1.0]}, "above 0"),
        ({"int": [1, 2.5]}, "whole numbers"),
        ({"float": [0, 1], "int": [0, 1]}, "give one of"),
        ({}, "give one of"),
    ],
)
def test_a_parameter_that_is_none_is_refused(parameter: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        SearchSpace.parse(searched(optim__lr=parameter))
    assert said in str(caught.value) and "optim.lr" in str(caught.value)


def test_unknown_keys_name_the_nearest() -> None:
    assert "did you mean 'training'?" in refused(base={"trainning": {"epochs": 3}})
    assert "did you mean 'epochs'?" in refused(base={"training": {"epochz": 3}})
    assert "did you mean 'search'?" in refused(serch={"trials": 3})
    assert "did you mean 'alpha'?" in refused(
        base={"objective": {"name": "patchmix_cl", "alhpa": 1.0}},
        space={"objective.name": {"choice": ["patchmix_cl", "ce"]}},
    )


@pytest.mark.parametrize(("key", "limit"), [("alpha", "greater than or equal to 0"), ("tau", "greater than 0")])
def test_a_range_that_reaches_a_forbidden_value_is_refused_before_anything_runs(key: str, limit: str) -> None:
    low = {"alpha": -1.0, "tau": 0.0}[key]
    with pytest.raises(UserError) as caught:
        SearchSpace.parse(
            searched(**{f"objective__{key}": {"float": [low, 1.0], "when": {"objective.name": "patchmix_cl"}}})
        )
    assert f"'objective.{key}' = {low}" in str(caught.value) and limit in str(caught.value)


def test_a_model_and_an_objective_that_do_not_fit_are_refused() -> None:
    message = refused(base={"model": {"name": "cnn6"}})
    assert "patchmix_cl" in message and "cnn6" in message and "objective.name = patchmix_cl" in message


def test_the_study_is_another_one_for_another_space_and_the_same_for_more_trials() -> None:
    name = SearchSpace.parse(content()).study_name
    assert SearchSpace.parse(content(search={"trials": 99})).study_name == name
    assert SearchSpace.parse(content(resources={"cpus": 2}, budget={"hours": 1})).study_name == name
    assert SearchSpace.parse(content(base={"training": {"epochs": 3}})).study_name != name
    assert SearchSpace.parse(content(space={"optim.lr": {"log_float": [1e-4, 2e-2]}})).study_name != name
    assert SearchSpace.parse(content(evaluation={"protocol": "validation"})).study_name != name


def test_overrides_reach_nested_keys_and_are_read_as_yaml() -> None:
    changed = override(
        content(), ["search.trials=3", "base.training.epochs=7", "base.optim.lr=1e-4", "base.model.pretrained=null"]
    )
    assert changed["search"]["trials"] == 3
    assert changed["base"]["training"]["epochs"] == 7
    assert changed["base"]["optim"]["lr"] == pytest.approx(1e-4)
    assert changed["base"]["model"]["pretrained"] is None
    assert override(content(), ["space.optim.lr.log_float=[1e-5, 1e-3]"])["space"]["optim.lr"] == {
        "log_float": [1e-5, 1e-3]
    }
    with pytest.raises(UserError, match="not key=value"):
        override(content(), ["trials"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("base: [1, 2\n")
    with pytest.raises(UserError, match="is not YAML"):
        read_yaml(broken)
    with pytest.raises(UserError, match="must be a mapping"):
        SearchSpace.parse([1, 2])


def test_a_part_of_another_name_replaces_the_base_part() -> None:
    base = {"model": {"name": "ast", "size": "tiny"}, "optim": {"lr": 1}}
    assert merge(base, {"model": {"name": "crnn"}})["model"] == {"name": "crnn"}
    assert merge(base, {"model": {"size": "small"}})["model"] == {"name": "ast", "size": "small"}
    assert merge(base, {"optim": {"weight_decay": 2}})["optim"] == {"lr": 1, "weight_decay": 2}


def test_a_parameter_of_a_named_feature_can_be_set() -> None:
    content = override({"feature": "fbank-small", "model": {"name": "cnn6"}}, ["feature.pad=zero", "feature.copies=2"])
    assert content["feature"] == {
        "kind": "fbank", "seconds": 5.0, "n_mels": 64, "shift_ms": 20.0, "pad": "zero", "copies": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"promotion": {"seeds": [-1]}}, "greater than or equal to 0"),
        ({"promotion": {"seeds": [0, 0]}}, "seeds has 0 twice"),
        ({"promotion": {"seeds": [2**70]}}, "less than"),
        ({"evaluation": {"seeds": [1, 2, 1]}}, "seeds has 1 twice"),
        ({"evaluation": {"folds": [0, 0]}}, "folds has 0 twice"),
        ({"evaluation": {"folds": []}}, "at least 1 item"),
        ({"search": {"seed": -1}}, "greater than or equal to 0"),
        ({"search": {"trials": True}}, "trials is a number or text"),
        ({"budget": {"hours": float("inf")}}, "finite number"),
        ({"resources": {"gpus": float("nan")}}, "."),
        ({"space": {"optim.weight_decay": {"float": [1e-4, float("inf")]}}}, "infinity and NaN"),
        ({"space": {"optim.weight_decay": {"float": [1e-4, 1e-2], "step": 0.0}}}, "step must be above 0"),
    ],
)
def test_numbers_that_would_fail_later_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        SearchSpace.parse(merge(CONTENT, change))
