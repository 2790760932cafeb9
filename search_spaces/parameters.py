"""One searched parameter: its distribution, when it applies, and how Optuna is asked for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from feature_store.typed_settings import TypedSettings

if TYPE_CHECKING:
    import optuna

KINDS = ("float", "log_float", "int", "log_int", "choice")


class Parameter(TypedSettings):
    """``{float: [low, high]}``, ``log_float``, ``int``, ``log_int`` or ``{choice: [a, b]}``.

    `step` makes a float or an int discrete. `when` names other keys of the config and the values under which this
    parameter exists at all: ``{objective.name: [patchmix_cl]}``.
    """

    kind: Literal["float", "log_float", "int", "log_int", "choice"]
    values: list[Any] = Field(description="[low, high], or the choices")
    step: float | int | None = None
    when: dict[str, list[Any]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        """``{float: [0, 1], when: {...}}`` as the fields' names."""
        if not isinstance(value, dict) or "kind" in value:
            return value
        given = [kind for kind in KINDS if kind in value]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}; here: {', '.join(given) or 'none'}")
        rest = {key: item for key, item in value.items() if key != given[0]}
        if isinstance(rest.get("when"), dict):
            rest["when"] = {key: item if isinstance(item, list) else [item] for key, item in rest["when"].items()}
        return {"kind": given[0], "values": value[given[0]], **rest}

    @model_validator(mode="after")
    def _sound(self) -> Parameter:
        if any(isinstance(value, float) and not math.isfinite(value) for value in self.values):
            raise ValueError("infinity and NaN are no values to search")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step must be above 0, not {self.step:g}")
        if self.kind == "choice":
            if not self.values:
                raise ValueError("the list of choices is empty")
            if any(not isinstance(value, str | bool | int | float | None) for value in self.values):
                raise ValueError("choices are plain values: words, numbers, true, false or null")
            if len({repr(value) for value in self.values}) < len(self.values):
                raise ValueError("a choice appears twice")
            return self
        if len(self.values) != 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in self.values):
            raise ValueError(f"{self.kind} takes two numbers, [low, high]")
        low, high = self.values
        if not low < high:
            raise ValueError(f"low must be below high, not [{low}, {high}]")
        if self.kind.startswith("log_") and low <= 0:
            raise ValueError(f"a logarithmic range must begin above 0, not at {low}")
        if "int" in self.kind and any(isinstance(value, float) for value in self.values):
            raise ValueError(f"{self.kind} takes whole numbers, not [{low}, {high}]")
        if self.step is not None and self.kind.startswith("log_"):
            raise ValueError("a logarithmic range takes no step")
        return self

    def applies(self, config: Mapping[str, Any]) -> bool:
        """Whether a config, as far as it is made up, has this parameter."""
        return all(_at(config, path) in allowed for path, allowed in self.when.items())

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        """Ask an Optuna trial for a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(name, self.values)
        low, high = self.values
        if "int" in self.kind:
            return trial.suggest_int(name, low, high, step=int(self.step or 1), log=self.kind == "log_int")
        return trial.suggest_float(name, low, high, step=self.step, log=self.kind == "log_float")


def _at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
