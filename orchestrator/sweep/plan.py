"""The dry run: what a sweep would do, what is missing for it, and how long it may take by what was recorded."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.pruning import build_rule
from orchestrator.registry.policy import Policy
from orchestrator.studies.samplers import build_sampler
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.data import task_classes
from workers.results import ResultStore
from workers.weights import pin_weights


@dataclass(frozen=True)
class FamilyPlan:
    """One family of a sweep.

    Attributes:
        model, objectives, features: what its configs may hold.
        parameters: what is searched.
        seconds_per_fold: median of the recorded fold runs of this model and feature, or None.
    """

    name: str
    model: str
    objectives: list[str]
    features: list[str]
    parameters: list[str]
    seconds_per_fold: float | None


@dataclass(frozen=True)
class Plan:
    """What a sweep would run. Counts are upper bounds: pruned and finished fold runs are not trained."""

    study: str
    families: list[FamilyPlan]
    folds: list[int]
    trials: int
    search_runs: int
    promotion_runs: int
    results_recorded: int
    warnings: list[str]

    @property
    def seconds(self) -> float | None:
        """Time in all on one slot, every fold run trained; None where a family has no recorded run."""
        known = [family.seconds_per_fold for family in self.families]
        if any(value is None for value in known):
            return None
        mean = sum(value for value in known if value is not None) / len(known)
        return mean * (self.search_runs + self.promotion_runs)


def check_space(space: SearchSpace, store: FeatureStore, settings: Settings) -> list[int]:
    """Everything that a sweep needs and that would otherwise fail in the middle of it.

    Returns:
        The folds of a trial, in their order.

    Raises:
        UserError: a feature, task, split, fold, pretrained file or policy is not there; another package's rule or
            sampler cannot be used.
    """
    Policy.load()  # else a bad policy would be told when all is trained
    build_rule(space.search.pruner)
    build_sampler(space.search, asked=0)
    pretrained: set[str] = set()
    for family in space.family_names:
        for config in space.corners(family):
            store.manifest(config.dataset, config.feature)
            task_classes(store, config)
            if config.model.pretrained and config.model.pretrained.file not in pretrained:
                pin_weights(config, settings.weights)
                pretrained.add(config.model.pretrained.file)
    config = space.corners(space.family_names[0])[0]
    for name in (space.evaluation.split, space.promotion.split):
        store.split(config.dataset, name, task=config.task)
    known = store.split(config.dataset, space.evaluation.split, task=config.task).folds()
    folds = known if space.evaluation.folds is None else space.evaluation.folds
    for fold in folds:
        if fold not in known:
            raise UserError(
                f"split '{space.evaluation.split}' has no fold {fold}", where="evaluation.folds", hint=f"known: {known}"
            )
    return folds


def make_plan(space: SearchSpace, settings: Settings) -> Plan:
    """Check everything and count what would run.

    Raises:
        UserError: as `check_space`.
    """
    store = FeatureStore.open(settings.store)
    folds = check_space(space, store, settings)
    recorded: dict[tuple[str, str], list[float]] = {}
    for result in ResultStore.open(settings.results).iterate():
        key = (result.config["model"]["name"], result.key.feature_id)
        recorded.setdefault(key, []).append(result.timing["total_seconds"])
    config = space.corners(space.family_names[0])[0]
    outer = store.split(config.dataset, space.promotion.split, task=config.task)
    finalists = len(space.family_names) if space.promotion.each_family else 1
    runs_per_trial = len(folds) * len(space.evaluation.seeds)
    rule = build_rule(space.search.pruner)
    return Plan(
        study=space.study_name,
        families=[_family(space, name, recorded) for name in space.family_names],
        folds=folds,
        trials=space.search.trials,
        search_runs=space.search.trials * runs_per_trial,
        promotion_runs=finalists * len(outer.folds()) * len(space.promotion.seeds),
        results_recorded=sum(map(len, recorded.values())),
        warnings=[
            *(rule.warnings(runs_per_trial, space.search.trials) if rule else []),
            *space.search.sampler.warnings(space.search.model_fields_set),
        ],
    )


def _family(space: SearchSpace, name: str, recorded: dict[tuple[str, str], list[float]]) -> FamilyPlan:
    configs: list[ExperimentConfig] = space.corners(name)
    own = space.families[name].space if name in space.families else {}
    seconds = [
        value for config in configs[:1] for value in recorded.get((config.model.name, config.feature.feature_id), [])
    ]
    return FamilyPlan(
        name=name,
        model=configs[0].model.name,
        objectives=sorted({config.objective.name for config in configs}),
        features=sorted({config.feature.feature_id for config in configs}),
        parameters=[*(path for path in space.space if path not in own), *own],
        seconds_per_fold=statistics.median(seconds) if seconds else None,
    )
