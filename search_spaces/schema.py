"""A sweep as one YAML file: validated as a whole before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.typed_settings import Seed, TypedSettings
from feature_store.yaml_files import read_yaml
from search_spaces.overrides import merge, nest, override
from search_spaces.parameters import Parameter
from search_spaces.presets import over_preset
from search_spaces.pruners import USUAL_PRUNER, MedianPruner, NoPruning, Pruner
from search_spaces.samplers import SAMPLERS, USUAL_SAMPLER, Sampler
from workers.config import ExperimentConfig
from workers.config.explain import explain

if TYPE_CHECKING:
    import optuna


class Section(TypedSettings):
    """Base of every part of a search space."""


def _each_once(key: str, values: Sequence[int]) -> None:
    twice = sorted({value for value in values if list(values).count(value) > 1})
    if twice:
        raise ValueError(f"{key} has {', '.join(map(str, twice))} twice: a run of the same seed is the same run")


class Family(Section):
    """Configs of one kind of model: what differs from the base, and what is searched only here."""

    base: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Parameter] = Field(default_factory=dict)


class Evaluation(Section):
    """How a trial is scored. The default never sees the test side of the official split."""

    split: str = "official-inner5"
    folds: list[Annotated[int, Field(ge=0, le=10_000)]] | None = Field(
        default=None, min_length=1, description="all folds of the split, in order, if not given"
    )
    seeds: list[Seed] = Field(default=[0], min_length=1, max_length=100)
    metric: Metric | None = Field(default=None, description="what is maximised; null: the task's own")
    protocol: Literal["validation", "last"] = "last"

    @model_validator(mode="after")
    def _sound(self) -> Evaluation:
        _each_once("seeds", self.seeds)
        _each_once("folds", self.folds or [])
        return self


class Promotion(Section):
    """What is trained on the whole training side when the search is over, its test side read once."""

    split: str = "official"
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=100)
    each_family: bool = Field(default=False, description="the best config of every family, not only of the sweep")
    pareto: bool = Field(default=False, description="every config of the Pareto set, with search.cost")

    @model_validator(mode="after")
    def _sound(self) -> Promotion:
        _each_once("seeds", self.seeds)
        return self


class Search(Section):
    sampler: Sampler = Field(
        default=USUAL_SAMPLER, description="tpe, gp, cmaes, qmc or random; search_spaces/samplers.py"
    )
    seed: Seed = 0
    trials: int = Field(default=20, ge=1, le=1_000_000)
    startup_trials: int = Field(
        default=8, ge=1, le=1_000_000, description="drawn at random before a sampler learns; qmc and random never do"
    )
    cost: Literal["train_seconds", "parameters", "peak_bytes"] | None = Field(
        default=None, description="to be small beside a high Score: the sweep then ends with a Pareto set"
    )
    warm_start: int = Field(
        default=0, ge=0, le=100, description="begin with the best trials of other studies that were scored alike"
    )
    pruner: Pruner = Field(default=USUAL_PRUNER, description="a rule's name and its settings")

    @field_validator("sampler", mode="before")
    @classmethod
    def _sampler_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("pruner", mode="before")
    @classmethod
    def _usual_pruner(cls, value: Any) -> Any:
        return {"name": USUAL_PRUNER.name, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _sound(self) -> Search:
        if self.cost is not None and not isinstance(self.pruner, NoPruning):
            raise ValueError("a trial with a cost beside its Score cannot be pruned: set pruner to {name: none}")
        if self.cost is not None and not self.sampler.takes_cost:
            *others, last = [name for name, sampler in SAMPLERS.own.items() if sampler.takes_cost]
            raise ValueError(f"{self.sampler.name} takes one objective: use {', '.join(others)} or {last} with a cost")
        return self


class Resources(Section):
    """What one fold run takes. Of a shared GPU it may use as much memory as its share of it."""

    cpus: float = Field(default=1, gt=0, le=4096)
    gpus: Annotated[float, Field(ge=0, le=1024)] | Literal["auto"] = Field(
        default=0.0, description="auto: a whole GPU, until the memory that such a run takes is known"
    )
    concurrent_trials: int | None = Field(
        default=None, ge=1, le=100_000, description="as many as fit the cluster if not given"
    )


class Budget(Section):
    """When to stop asking for more. What has begun is finished."""

    hours: float | None = Field(default=None, gt=0, description="by the clock, of one start of the sweep")
    gpu_hours: float | None = Field(default=None, gt=0, description="of trained fold runs, over all starts")
    cost_per_hour: float | None = Field(
        default=None, gt=0, description="of the resources of one fold run; with gpus: auto, of a whole GPU"
    )
    cost: float | None = Field(default=None, gt=0, description="of trained fold runs, over all starts")
    chance: float | None = Field(
        default=None, gt=0, lt=1, description="stop when one more trial is less likely than this to be the best"
    )

    @model_validator(mode="after")
    def _sound(self) -> Budget:
        if self.cost is not None and self.cost_per_hour is None:
            raise ValueError("cost needs cost_per_hour")
        return self


class SearchSpace(Section):
    """One sweep."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    base: dict[str, Any]
    space: dict[str, Parameter] = Field(default_factory=dict)
    families: dict[str, Family] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()
    search: Search = Search()
    resources: Resources = Resources()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _one_or_two_objectives(self) -> SearchSpace:
        if self.search.cost is None and self.promotion.pareto:
            raise ValueError("promotion.pareto needs search.cost")
        if self.search.cost is not None and self.budget.chance is not None:
            raise ValueError("budget.chance is of one objective: leave it out with search.cost")
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> SearchSpace:
        """Read a file, apply ``key=value`` overrides, and check every config that the space can give.

        Raises:
            UserError: what is wrong, and where.
        """
        shipped = [file.name for file in Path(__file__).parent.glob("*.yaml")]
        return cls.parse(override(read_yaml(path, known=shipped), overrides), where=str(path))

    @classmethod
    def parse(cls, content: Any, where: str = "search space") -> SearchSpace:
        """Validate a plain mapping, whose `base` may name a preset that it is laid over: ``{preset: icbhi_ce, ...}``.

        Raises:
            UserError: what is wrong, and where.
        """
        if not isinstance(content, dict):
            raise UserError(f"must be a mapping, not {type(content).__name__}", where=where)
        if "base" in content:
            content = {**content, "base": over_preset(content["base"], where=f"{where}, base")}
        try:
            space = cls.model_validate(content)
        except ValidationError as error:
            raise UserError(explain(error, cls), where=where) from error
        space.check(where)
        return space

    @property
    def study_name(self) -> str:
        """Name and hash of all that decides which configs are tried and how they are scored.

        How many trials, how many at once and for how long may change from one start to the next.
        """
        left_out = {"name", "description", "promotion", "resources", "budget"}
        content = self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        content["search"] = {key: value for key, value in content.get("search", {}).items() if key != "trials"}
        if isinstance(self.search.pruner, MedianPruner) and "pruner" in content["search"]:
            del content["search"]["pruner"]["name"]  # the usual rule's has never been part of the hash
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def family_names(self) -> list[str]:
        return list(self.families) or ["all"]

    def suggest(self, trial: optuna.trial.BaseTrial) -> tuple[str, dict[str, Any]]:
        """Ask an Optuna trial for a config.

        Returns:
            The family and the config as a plain mapping, for `ExperimentConfig.parse`.
        """
        family = self.family_names[0]
        if len(self.family_names) > 1:
            family = trial.suggest_categorical("family", self.family_names)
        return family, self._assemble(family, lambda parameter, name: parameter.suggest(trial, name))

    def _assemble(self, family: str, value_of: Any) -> dict[str, Any]:
        """The base, the family's base, and a value for each parameter that applies, in the order of the file."""
        chosen = self.families.get(family, Family())
        config = merge(self.base, chosen.base)
        own = {f"{family}:{path}": (path, parameter) for path, parameter in chosen.space.items()}
        common = {path: (path, parameter) for path, parameter in self.space.items() if path not in chosen.space}
        for name, (path, parameter) in {**common, **own}.items():
            if parameter.applies(config):
                config = merge(config, nest(path, value_of(parameter, name)))
        return config

    def check(self, where: str = "search space") -> None:
        """Validate the configs at the ends of every range and at every choice.

        Raises:
            UserError: a config that the space can give is not one, with the parameter that makes it so.
        """
        for family in self.family_names:
            self.corners(family, where)

    def corners(self, family: str, where: str = "search space") -> list[ExperimentConfig]:
        """A family's configs with one parameter at an end of its range or at one choice, the others at their first.

        Raises:
            UserError: one of them is not a config.
        """
        parameters = {**self.space, **self.families.get(family, Family()).space}
        at = f"{where}, family '{family}'" if self.families else where
        fixed: list[dict[str, Any]] = [{}]
        fixed += [{path: value} for path, parameter in parameters.items() for value in parameter.values]
        return [self._corner(family, {**_conditions(parameters, one), **one}, at) for one in fixed]

    def _corner(self, family: str, fixed: Mapping[str, Any], where: str) -> ExperimentConfig:
        def value_of(parameter: Parameter, name: str) -> Any:
            return fixed.get(name.removeprefix(f"{family}:"), parameter.values[0])

        given = ", ".join(f"{path} = {value}" for path, value in fixed.items())
        return ExperimentConfig.parse(
            self._assemble(family, value_of), where=f"{where}{f', at {given}' if given else ''}"
        )


def _conditions(parameters: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The values that make the fixed parameters apply."""
    needed: dict[str, Any] = {}
    for path in fixed:
        for condition, allowed in parameters[path].when.items():
            if condition in parameters and condition not in fixed:
                needed[condition] = allowed[0]
    return needed
