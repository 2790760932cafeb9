"""Parts of the board's documents that an analysis computes: estimates, descriptions, slices, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.analysis.bootstrap import mean_and_sd

E = TypeVar("E", bound="Estimate")


class Item(BaseModel):
    """Base of every part of the board."""

    model_config = ConfigDict(extra="forbid")


class Estimate(Item):
    """A number over seeds, and where it has one, its interval."""

    mean: float = Field(description="over seeds")
    sd: float | None = Field(default=None, description="standard deviation over seeds; null for one seed")
    low: float | None = Field(default=None, description="2.5 % of a bootstrap over patients")
    high: float | None = Field(default=None, description="97.5 % of a bootstrap over patients")

    @classmethod
    def of(cls: type[E], values: Sequence[float]) -> E:
        """Mean and sample standard deviation of one value per seed; without an interval."""
        mean, sd = mean_and_sd(values)
        return cls(mean=mean, sd=sd)


class Model(Item):
    """A network."""

    family: str = Field(description="`model.name` of the config")
    label: str = Field(description="family and size, for people")
    parameters: int = Field(description="how many")
    pretrained: str | None = Field(default=None, description="file of pretrained weights")


class Objective(Item):
    """What a training minimises."""

    name: str = Field(description="`objective.name` of the config")
    label: str = Field(description="for people")
    settings: dict[str, Any] = Field(default_factory=dict, description="what an objective's name leaves open")


class Slice(Item):
    """The part of the test side that shares a device, a location, a patient...; a rate over no cycle is null."""

    name: str = Field(description="of the class, device, location...")
    cycles: int = Field(description="of one seed")
    patients: int = Field(description="with a cycle in it")
    score: float | None = Field(
        default=None, description="the table's metric on these cycles; null where it lacks normal or abnormal ones"
    )
    specificity: float | None = Field(
        default=None, description="of these cycles, where the metric is made of Sp and Se"
    )
    sensitivity: float | None = Field(
        default=None, description="of these cycles, where the metric is made of Sp and Se"
    )
    recall: float | None = Field(default=None, description="of a class; null for the other breakdowns")
    low: float | None = Field(default=None, description="2.5 % of a bootstrap over patients, of the score or recall")
    high: float | None = Field(default=None, description="97.5 % of a bootstrap over patients, of the score or recall")


class ReliabilityBin(Item):
    """Cycles whose predicted class has a probability in `(low, high]`."""

    low: float = Field(description="its lower end")
    high: float = Field(description="its upper end")
    confidence: float = Field(description="mean probability of the predicted class, 0..1")
    accuracy: float = Field(description="share of cycles that are hit, 0..1")
    cycles: int = Field(description="summed over seeds")


class Reliability(Item):
    """How far a probability can be taken at its word."""

    bins: list[ReliabilityBin] = Field(description="of 15 of equal width, those that hold a cycle")
    ece: float = Field(description="expected calibration error, percent points")
    mce: float = Field(description="largest gap of a bin, percent points")
