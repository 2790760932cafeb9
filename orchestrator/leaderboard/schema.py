"""What stands in `leaderboard.json`. Scores are in percent; every list is in the order in which it is shown."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
HONEST = ("validation", "last")
PROTOCOLS = (*HONEST, "test_best")


class Item(BaseModel):
    """Base of every part of the board."""

    model_config = ConfigDict(extra="forbid")


class Estimate(Item):
    """A number over seeds, and where it has one, its interval."""

    mean: float
    sd: float | None = Field(default=None, description="standard deviation over seeds; null for one seed")
    low: float | None = Field(default=None, description="2.5 % of a bootstrap over patients")
    high: float | None = Field(default=None, description="97.5 % of a bootstrap over patients")


class Numbers(Item):
    """The metrics of an entry: mean over folds, then over seeds."""

    score: Estimate = Field(description="icbhi4: an abnormal cycle counts only with its exact class")
    specificity: Estimate
    sensitivity: Estimate
    icbhi2_score: Estimate = Field(description="icbhi2: any abnormal class counts")
    icbhi2_sensitivity: Estimate
    uar: Estimate | None = Field(default=None, description="unweighted average recall")
    auroc: Estimate | None = Field(default=None, description="one against the rest, averaged over classes")
    accuracy: Estimate
    pooled_score: Estimate | None = Field(default=None, description="out-of-fold Score; only where folds > 1")


class SeedRow(Item):
    """One seed of an entry, over all its folds."""

    seed: int
    epochs: list[int] = Field(description="chosen epoch, a fold each")
    score: float
    specificity: float
    sensitivity: float
    icbhi2_score: float
    fold_scores: list[float]
    validation_score: float | None = Field(default=None, description="of the held-out patients, mean over folds")


class Curve(Item):
    """One training, an item an epoch."""

    seed: int
    fold: int
    chosen: int = Field(description="epoch that the protocol chose, from 1")
    validation: list[float | None] = Field(description="Score of the held-out patients")
    train_loss: list[float | None]


class Model(Item):
    family: str = Field(description="`model.name` of the config")
    label: str = Field(description="family and size, for people")
    parameters: int
    pretrained: str | None = Field(default=None, description="file of pretrained weights")


class Objective(Item):
    name: str
    label: str
    settings: dict[str, Any] = Field(default_factory=dict, description="what an objective's name leaves open")


class Origin(Item):
    """Where the numbers come from, each distinct value once."""

    lungtune: list[str]
    git_commit: list[str]
    python: list[str]
    torch: list[str]
    device: list[str]
    command: list[str]
    finished: str = Field(description="of the last training, UTC")


class Registered(Item):
    """The registry's name for the model trained from this config."""

    name: str
    version: str
    alias: str | None = None


class Entry(Item):
    """One config on one split under one protocol, over its folds and seeds."""

    id: str = Field(description="stable: equal for the same config, data, split and protocol")
    rank: int | None = Field(description="null where the entry is not ranked")
    separable: bool | None = Field(
        default=None, description="false where the interval overlaps the leader's; null for the leader and the unranked"
    )
    note: str | None = Field(default=None, description="why the entry is not ranked")
    model: Model
    objective: Objective
    differs: dict[str, Any] = Field(
        default_factory=dict, description="config keys that tell it from entries of the same model and objective"
    )
    numbers: Numbers | None = Field(default=None, description="null where no seed has all its folds")
    folds: int
    folds_done: int = Field(description="fewest over the seeds begun")
    seeds: list[SeedRow]
    compat: list[str] = Field(
        default_factory=list, description="switched-on copies of a source system's defects; such an entry is not ranked"
    )
    classes: list[str]
    confusion: list[list[int]] = Field(description="rows truth, columns prediction; summed over seeds and folds")
    recall: list[float | None] = Field(description="percent, per class; null where the class has no cycle")
    curves: list[Curve]
    test_watched: bool = Field(description="the test side was scored after every epoch")
    test_reads: int = Field(description="most reads of the test side by one training")
    training_minutes: float = Field(description="of all folds, mean over seeds")
    config_hash: str
    data_hash: str
    split_hash: str
    feature_id: str
    semantics: int
    config: dict[str, Any]
    origin: Origin
    results: list[str] = Field(description="names of the results it is made of")
    registered: Registered | None = None


class Table(Item):
    """Entries that may be ranked against each other: one protocol of one board."""

    protocol: str
    honest: bool
    entries: list[Entry]
    incomplete: list[Entry]


class Data(Item):
    """What all entries of a board were trained and tested on."""

    dataset: str
    task: str
    split: str
    split_hash: str
    classes: list[str]
    synthetic: bool
    recordings: int
    recordings_listed: int
    test_cycles: int
    test_patients: int
    patients_on_both_sides: list[str]

    @property
    def partial(self) -> bool:
        return self.recordings < self.recordings_listed


class Board(Item):
    """One dataset, task and split."""

    id: str
    data: Data
    warnings: list[str]
    tables: list[Table]


class SearchRow(Item):
    """One trial: one config over the inner folds."""

    config_hash: str
    data_hash: str
    model: Model
    objective: Objective
    differs: dict[str, Any] = Field(default_factory=dict)
    score: float = Field(description="mean over folds, then seeds, of the held-out Score")
    score_sd: float | None = Field(default=None, description="standard deviation over folds")
    pooled_score: float | None = None
    specificity: float
    sensitivity: float
    folds: int
    folds_done: int
    seeds: int
    config: dict[str, Any]
    ranked_as: str | None = Field(default=None, description="id of the board's entry trained from the same config")


class SearchTable(Item):
    """Cross-validation inside a training side: how the search saw its trials. The test side plays no part."""

    id: str
    data: Data
    protocol: str
    trials: int
    complete: int
    warnings: list[str]
    rows: list[SearchRow] = Field(description="the best complete trials of every model family")


class Published(Item):
    """One row of a paper, as published."""

    year: int
    method: str
    venue: str | None
    backbone: str | None
    params_m: float | None
    pretraining: str | None
    extra: str | None
    split: str
    metric: str
    selection: str
    specificity: float | None
    sensitivity: float | None
    score: float
    score_sd: float | None
    evidence: str
    note: str | None


class Bootstrap(Item):
    resamples: int
    seed: int
    unit: str = "patient"
    level: float = 0.95


class Problem(Item):
    """A result that is left out, and why."""

    result: str
    what: str


class Leaderboard(Item):
    """The whole document."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    generated: str = Field(description="UTC, ISO 8601")
    lungtune: str
    results: int = Field(description="how many fold runs were read")
    bootstrap: Bootstrap
    problems: list[Problem]
    boards: list[Board]
    search: list[SearchTable]
    published: list[Published]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
