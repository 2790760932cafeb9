"""Settings of the rules that stop a trial between folds: one class per rule. docs/pruning.md compares the rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from feature_store.errors import nearest
from workers.config.base import NamedPart
from workers.config.part_classes import PartClasses


class PrunerPart(NamedPart):
    """Base of all: what `pruner` of a search may be."""

    @classmethod
    def own_settings(cls) -> set[str]:
        """Names of the settings, beside `name`."""
        return set(cls.model_fields) - {"name"}

    @classmethod
    def fault(cls) -> str | None:
        if not issubclass(cls, RulePart):
            return f"{cls.__name__} is not a subclass of {RulePart.__module__}.{RulePart.__name__}"
        return super().fault()

    @model_validator(mode="before")
    @classmethod
    def _no_other_rules_setting(cls, content: Any) -> Any:
        own = cls.own_settings()
        for key in content if isinstance(content, dict) else ():
            rules = sorted(name for name, rule in PRUNERS.own.items() if key in rule.own_settings())
            if key not in cls.model_fields and rules:
                known = nearest(key, own) if own else "it has no settings: write {name: none}"
                what = f"'{key}' is a setting of {', '.join(rules)} and not of {content.get('name')}"
                raise ValueError(f"{what} ({known})")
        return content

    @model_serializer(mode="wrap")
    def _name_first(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


class NoPruning(PrunerPart):
    """Every trial runs all of its folds."""

    label = "No pruning"

    name: Literal["none"]


class RulePart(PrunerPart):
    """What all rules have in common. The `build` of a class's module makes an `orchestrator.pruning.Rule` of it."""

    startup_trials: int = Field(default=4, ge=0, le=1_000_000, description="complete trials before anything is pruned")
    after_folds: int = Field(default=2, ge=1, le=10_000, description="folds that every trial receives")


class MedianPruner(RulePart):
    """Stops a trial whose mean over k folds is below the median of the others' over the same k."""

    label = "Median"
    module = "orchestrator.pruning.percentile"

    name: Literal["median"] = "median"


class PercentilePruner(RulePart):
    """Stops a trial whose mean over k folds is below a percentile of the others' over the same k."""

    label = "Percentile"
    module = "orchestrator.pruning.percentile"

    name: Literal["percentile"]
    percentile: float = Field(default=50.0, gt=0, lt=100, description="the share that goes on; 50 is the median rule")


class HalvingPruner(RulePart):
    """Asynchronous successive halving across folds (ASHA; Li et al., 2020)."""

    label = "Halving"
    module = "orchestrator.pruning.halving"

    name: Literal["halving"]
    reduction: float = Field(default=2.0, gt=1, le=16, description="one in so many passes a rung")


class WilcoxonPruner(RulePart):
    """Stops a trial whose folds are worse than the best trial's by the signed-rank test."""

    label = "Wilcoxon"
    module = "orchestrator.pruning.wilcoxon"

    name: Literal["wilcoxon"]
    p: float = Field(default=0.1, gt=0, lt=1, description="level of the test against the best trial")


class RacingPruner(RulePart):
    """Stops a trial that can hardly end above the best one."""

    label = "Racing"
    module = "orchestrator.pruning.racing"

    name: Literal["racing"]
    share: float = Field(
        default=0.2, gt=0, lt=1, description="of a new trial's chance to win, below which a trial stops"
    )


PRUNERS = PartClasses(PrunerPart, "lungtune.pruners", vars())
Pruner = Annotated[PrunerPart, PlainValidator(PRUNERS.validate), SerializeAsAny(), PRUNERS]
USUAL_PRUNER = MedianPruner()
