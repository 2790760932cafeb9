"""An entry of `leaderboard.json`: one config or ensemble on one split under one protocol. Scores are in percent."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.analysis.items import Estimate, Item, Model, Objective


class Numbers(Item):
    """The metrics of an entry: mean over folds, then over seeds."""

    score: Estimate = Field(description="the table's `metric`")
    specificity: Estimate = Field(description="share of normal cycles called normal")
    sensitivity: Estimate = Field(
        description="share of abnormal cycles called by their exact class; for metric icbhi2 by any abnormal one"
    )
    icbhi2_score: Estimate = Field(description="icbhi2: any abnormal class counts")
    icbhi2_sensitivity: Estimate = Field(description="share of abnormal cycles called by any abnormal class")
    uar: Estimate | None = Field(default=None, description="unweighted average recall")
    auroc: Estimate | None = Field(default=None, description="one against the rest, averaged over classes")
    accuracy: Estimate = Field(description="share of cycles called by their class")
    ece: Estimate | None = Field(default=None, description="expected calibration error, percent points")
    pooled_score: Estimate | None = Field(default=None, description="`score` out of fold; only where folds > 1")


class SeedRow(Item):
    """One seed of an entry, over all its folds."""

    seed: int = Field(description="of initialisation, data order, mixing and the held-out patients")
    epochs: list[int] = Field(description="chosen epoch, a fold each; empty for an ensemble")
    score: float = Field(description="the table's metric, mean over folds")
    specificity: float = Field(description="mean over folds")
    sensitivity: float = Field(description="mean over folds")
    icbhi2_score: float = Field(description="mean over folds")
    fold_scores: list[float] = Field(description="`score`, a fold each")
    validation_score: float | None = Field(
        default=None, description="`score` of the held-out patients, mean over folds"
    )


class Origin(Item):
    """Where the numbers come from, each distinct value once."""

    lungtune: list[str] = Field(description="versions")
    git_commit: list[str] = Field(description="of the code")
    python: list[str] = Field(description="versions")
    torch: list[str] = Field(description="versions")
    device: list[str] = Field(description="trained on")
    command: list[str] = Field(description="that started the training")
    finished: str = Field(description="of the last training, UTC")


class Registered(Item):
    """The registry's name for the model trained from this config."""

    name: str = Field(description="of the registered model")
    version: str = Field(description="of it")
    alias: str | None = Field(default=None, description="`champion`, if it is the champion")


class Difference(Item):
    """A paired comparison with another entry of the table: both values over the same resamples of patients."""

    other: str = Field(description="id of the entry that it is compared with")
    mean: float = Field(description="own `score` minus the other's")
    low: float | None = Field(default=None, description="2.5 % of the resamples' differences")
    high: float | None = Field(default=None, description="97.5 % of the resamples' differences")
    p: float | None = Field(default=None, description="two-sided: twice the smaller share of resamples beyond 0")


class Cost(Item):
    """What the training took. Null: not recorded."""

    train_minutes: float = Field(description="of all folds, mean over seeds")
    gpu_hours: float | None = Field(default=None, description="of all folds, mean over seeds; null where on a CPU")
    device: str = Field(description="what was trained on, each distinct device once")
    energy_kwh: float | None = Field(default=None, description="of all folds, mean over seeds, if it was measured")


class Member(Item):
    """One model of an ensemble."""

    id: str = Field(description="id of the entry of its config under the same protocol")
    label: str = Field(description="of its model")
    weight: float = Field(description="of its probabilities: mean over folds, all its seeds together")
    results: list[str] = Field(description="names of the results it is made of")


class Entry(Item):
    """One config on one split under one protocol, over its folds and seeds."""

    id: str = Field(description="stable: equal for the same config, data, split and protocol")
    rank: int | None = Field(description="null where the entry is not ranked")
    rank_low: int | None = Field(default=None, description="best rank of the 95 % interval, over the same resamples")
    rank_high: int | None = Field(default=None, description="worst rank of the 95 % interval, over the same resamples")
    group: int | None = Field(
        default=None, description="tie group from 1: the first entry separable from a group's leader opens the next"
    )
    tied_with: str | None = Field(
        default=None, description="id of its group's leader, from which it is not separable; null for the leader"
    )
    difference: Difference | None = Field(
        default=None, description="the comparison that decided its group: with its own leader, or with the one before"
    )
    note: str | None = Field(default=None, description="why the entry is not ranked")
    contradicted: bool = Field(default=False, description="a stored number is not what the stored predictions give")
    model: Model = Field(description="what was trained")
    objective: Objective = Field(description="what was minimised")
    differs: dict[str, Any] = Field(
        default_factory=dict, description="config keys that tell it from entries of the same model and objective"
    )
    numbers: Numbers | None = Field(default=None, description="null where no seed has all its folds")
    folds: int = Field(description="of the split")
    folds_done: int = Field(description="fewest over the seeds begun")
    seeds: list[SeedRow] = Field(description="those with all folds")
    compat: list[str] = Field(
        default_factory=list, description="switched-on copies of a source system's defects; such an entry is not ranked"
    )
    classes: list[str] = Field(description="in the order of the class numbers")
    confusion: list[list[int]] = Field(description="rows truth, columns prediction; summed over seeds and folds")
    recall: list[float | None] = Field(description="percent, per class; null where the class has no cycle")
    test_watched: bool = Field(description="the test side was scored after every epoch")
    test_reads: int = Field(description="most reads of the test side by one training")
    without_shared: Estimate | None = Field(
        default=None, description="`score` without the patients on both sides of the split; null where there are none"
    )
    cycle_weighted: Estimate | None = Field(
        default=None, description="`score` of the folds weighted by their cycles; only where folds > 1"
    )
    cost: Cost = Field(description="of the training")
    pretraining: str | None = Field(default=None, description="corpora of the pretrained weights; null: from scratch")
    extra_data: list[str] = Field(
        default_factory=list, description="corpora trained on beside the one that is tested, without the pretraining"
    )
    cycles_hash: str | None = Field(
        default=None, description="equal for entries tested on the same cycles in the same order; null without numbers"
    )
    config_hash: str = Field(description="of the config; of an ensemble its name")
    data_hash: str = Field(description="of the feature's content and the labels")
    split_hash: str = Field(description="of the cycles on both sides")
    feature_id: str = Field(description="kind and hash of the feature's spec")
    semantics: int = Field(description="version of the training's meaning")
    origin: Origin = Field(description="where the numbers come from")
    results: list[str] = Field(description="names of the results it is made of")
    registered: Registered | None = Field(
        default=None, description="null where the registry has no model of this config"
    )
    kind: Literal["model", "ensemble"] = Field(
        default="model", description="one config, or several models put together"
    )
    members: list[Member] = Field(default_factory=list, description="of an ensemble; empty for a model")
