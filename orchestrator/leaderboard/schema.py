"""What stands in `leaderboard.json` and in the documents beside it, one an entry and one a board.

Scores are in percent; every list is in the order in which it is shown. What only an entry's own page shows (its config,
curves, breakdowns, predictions) stands in `EntryDetail`, so that a board of 10,000 entries stays small.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from feature_store.metrics import USUAL, Metric
from orchestrator.analysis.items import Estimate, Item, Model, Objective, Reliability, ReliabilityBin, Slice
from orchestrator.leaderboard.schema_detail import (
    SCHEMA,
    BoardDetail,
    Curve,
    EntryDetail,
    WorstError,
)
from orchestrator.leaderboard.schema_entry import (
    Cost,
    Difference,
    Entry,
    Member,
    Numbers,
    Origin,
    Registered,
    SeedRow,
)

__all__ = [
    "HONEST",
    "PROTOCOLS",
    "SCHEMA",
    "Board",
    "BoardDetail",
    "Bootstrap",
    "ChampionChange",
    "Cost",
    "Curve",
    "Data",
    "Difference",
    "Entry",
    "EntryDetail",
    "Estimate",
    "Item",
    "Leaderboard",
    "Member",
    "Model",
    "Numbers",
    "Objective",
    "Origin",
    "Problem",
    "Published",
    "Registered",
    "Reliability",
    "ReliabilityBin",
    "SearchRow",
    "SearchTable",
    "SeedRow",
    "Slice",
    "Table",
    "WorstError",
]

HONEST = ("validation", "last")
PROTOCOLS = (*HONEST, "test_best")


class Table(Item):
    """Entries that may be ranked against each other: one protocol of one board."""

    protocol: str = Field(description="`validation`, `last` or `test_best`: how the epoch was chosen")
    honest: bool = Field(description="the test side had no part in the choice")
    metric: Metric = Field(default=USUAL, description="what it is ranked by, and what `score` is in it")
    entries: list[Entry] = Field(description="ranked, best first")
    incomplete: list[Entry] = Field(description="not ranked; `note` says why")


class Data(Item):
    """What all entries of a board were trained and tested on."""

    dataset: str = Field(description="name of the corpus")
    task: str = Field(description="what is predicted")
    split: str = Field(description="name of the split")
    split_hash: str = Field(description="of the cycles on both sides")
    classes: list[str] = Field(description="in the order of the class numbers; the first is normal")
    synthetic: bool = Field(description="made by a program: the numbers say nothing about lungs")
    recordings: int = Field(description="at hand")
    recordings_listed: int = Field(description="of the whole corpus")
    test_cycles: int = Field(description="over all folds")
    test_patients: int = Field(description="over all folds")
    patients_on_both_sides: list[str] = Field(description="of the split: trained on and tested")
    sounds_on_both_sides: list[str] = Field(
        default=[], description="tested recordings whose sound is trained on under another name"
    )
    sounds_in_doubt: list[str] = Field(
        default=[], description="recordings whose sound has another name, with another patient or other labels"
    )
    split_sources: list[str] = Field(default=[], description="what must be known of the official split's list")

    @property
    def partial(self) -> bool:
        return self.recordings < self.recordings_listed


class Board(Item):
    """One dataset, task and split, ranked by one metric."""

    id: str = Field(description="also its anchor on the page, and the name of its document")
    data: Data = Field(description="what its entries were trained and tested on")
    warnings: list[str] = Field(description="what a reader must know before any number")
    tables: list[Table] = Field(description="one a protocol, the honest ones first")


class SearchRow(Item):
    """One trial: one config over the inner folds."""

    config_hash: str = Field(description="of the config")
    data_hash: str = Field(description="of the feature's content and the labels")
    model: Model = Field(description="what was trained")
    objective: Objective = Field(description="what was minimised")
    differs: dict[str, Any] = Field(
        default_factory=dict, description="config keys that tell it from rows of the same model and objective"
    )
    score: float = Field(description="the table's metric on the held-out patients, mean over folds, then seeds")
    score_sd: float | None = Field(default=None, description="standard deviation over folds")
    pooled_score: float | None = Field(default=None, description="of all folds put together; null without predictions")
    specificity: float = Field(description="mean over folds, then seeds")
    sensitivity: float = Field(description="as in `Numbers`, mean over folds, then seeds")
    folds: int = Field(description="of the split")
    folds_done: int = Field(description="fewest over the seeds begun")
    seeds: int = Field(description="how many")
    config: dict[str, Any] = Field(description="the whole experiment config")
    ranked_as: str | None = Field(default=None, description="id of the board's entry trained from the same config")


class SearchTable(Item):
    """Cross-validation inside a training side: how the search saw its trials. The test side plays no part."""

    id: str = Field(description="its anchor on the page")
    data: Data = Field(description="what it was searched on")
    protocol: str = Field(description="`validation` or `last`")
    metric: Metric = Field(default=USUAL, description="what `score` is in it")
    trials: int = Field(description="how many configs")
    complete: int = Field(description="how many of them have all folds")
    warnings: list[str] = Field(description="what a reader must know before any number")
    rows: list[SearchRow] = Field(description="the best complete trials of every model family")


class Published(Item):
    """One row of a paper, as published. What the flags mean stands in `Leaderboard.published_flags`."""

    dataset: str = Field(description="name of the corpus")
    year: int = Field(description="of publication")
    method: str = Field(description="with its authors")
    venue: str | None = Field(description="where it was published")
    backbone: str | None = Field(description="the network")
    params_m: float | None = Field(description="million parameters")
    pretraining: str | None = Field(description="corpora of the pretrained weights")
    extra: str | None = Field(description="data beside the sounds and labels of the corpus")
    split: Literal[
        "official",
        "official-patient-test",
        "five-fold",
        "random-file",
        "random",
        "contest-public",
        "contest-private",
    ] = Field(description="flag")
    metric: Literal["icbhi4", "icbhi2", "accuracy", "uar"] = Field(description="flag: what `score` is in")
    selection: Literal["validation", "last", "test_best", "held_out", "unknown"] = Field(
        description="flag: how the epoch was chosen"
    )
    specificity: float | None = Field(description="percent, where it is stated")
    sensitivity: float | None = Field(description="percent, where it is stated")
    score: float = Field(description="the metric, percent")
    score_sd: float | None = Field(description="deviation over runs, where it is stated")
    evidence: Literal["primary", "secondary", "disputed"] = Field(description="flag: how well the number is attested")
    note: str | None = Field(description="what else a reader must know")


class ChampionChange(Item):
    """A version of a registered model became champion."""

    model: str = Field(description="name of the registered model")
    version: str = Field(description="of it")
    when: str = Field(description="UTC, ISO 8601")
    reason: str = Field(description="why it was promoted")
    score: float | None = Field(description="on the test side, percent, mean over seeds")
    metric: Metric = Field(default=USUAL, description="what `score` is in")
    entry: str | None = Field(default=None, description="id of the entry trained from the same config, if it is shown")


class Bootstrap(Item):
    """How every interval was made."""

    resamples: int = Field(description="how often the patients were drawn again")
    breakdown_resamples: int = Field(description="of the intervals in an entry's breakdowns")
    seed: int = Field(description="of the draws")
    unit: str = Field(default="patient", description="what is drawn")
    level: float = Field(default=0.95, description="of every interval")


class Problem(Item):
    """A result that is left out, and why."""

    result: str = Field(description="its name")
    what: str = Field(description="why")


class Leaderboard(Item):
    """The whole document."""

    schema_version: int = Field(default=SCHEMA, alias="schema", description="version of this layout")
    generated: str = Field(description="UTC, ISO 8601")
    lungtune: str = Field(description="version that built it")
    results: int = Field(description="how many fold runs were read")
    bootstrap: Bootstrap = Field(description="how the intervals were made")
    problems: list[Problem] = Field(description="results that are left out")
    boards: list[Board] = Field(description="one a dataset, task, split, extent of the data and metric")
    search: list[SearchTable] = Field(description="the search's cross-validation, apart from the boards")
    published: list[Published] = Field(
        description="results as papers state them, of the corpora that are ranked here by the same metric"
    )
    published_flags: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="column of the published results -> value -> what it means"
    )
    champions: list[ChampionChange] = Field(default_factory=list, description="oldest first")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
