"""Warm start of a study: the best parameters of earlier ones, as far as its search space has them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.studies.storage import score_of
from search_spaces.parameters import Parameter
from search_spaces.schema import Family, SearchSpace


def earlier_parameters(
    space: SearchSpace, storage: optuna.storages.BaseStorage, own: str, count: int
) -> list[dict[str, Any]]:
    """Parameters of the best trials of other studies, as far as this space has them, the best first.

    A study counts if its trials were scored in the same way (split, folds, seeds, metric, protocol): other values do
    not compare. A parameter that this space lacks, or that lies outside of its range, is left to the sampler; a
    trial of which nothing is left does not count. Where all fit, its fold runs are found in the result store.

    Args:
        space: to begin in.
        storage: of the studies.
        own: name of the study that begins.
        count: how many to take.
    """
    evaluation = space.evaluation.model_dump(mode="json")
    found: list[tuple[float, dict[str, Any]]] = []
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        if name == own or study.user_attrs.get("evaluation") != evaluation:
            continue
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            parameters = fitting(trial, space)
            if parameters:
                found.append((score_of(trial), parameters))
    found.sort(key=lambda pair: -pair[0])
    distinct: list[dict[str, Any]] = []
    for _, parameters in found:
        if parameters not in distinct:
            distinct.append(parameters)
    return distinct[:count]


def fitting(trial: FrozenTrial, space: SearchSpace) -> dict[str, Any]:
    """A trial's parameters that a space has, with values that it allows; empty where its family is another."""
    family = trial.user_attrs.get("family")
    if family not in space.family_names:
        return {}
    known = space.space | space.families.get(family, Family()).space
    kept = {}
    for name, value in trial.params.items():
        path = name.removeprefix(f"{family}:")
        if path in known and _allows(known[path], value):
            own = family in space.families and path in space.families[family].space
            kept[f"{family}:{path}" if own else path] = value
    if not kept:
        return {}
    return {**({"family": family} if len(space.family_names) > 1 else {}), **kept}


def _allows(parameter: Parameter, value: Any) -> bool:
    if parameter.kind == "choice":
        return value in parameter.values
    low, high = parameter.values
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
