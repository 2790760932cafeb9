"""What stands in `leaderboard.json` and in the documents beside it: `entries/<id>.json` and `boards/<id>.json`.

Scores are in percent; every list is in the order in which it is shown. What only an entry's own page shows (its config,
curves, breakdowns, predictions) stands in `EntryDetail`, so that a board of 10,000 entries stays small. Parts that an
analysis makes are in `orchestrator.analysis.items`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from feature_store.metrics import USUAL, Metric
from orchestrator.analysis.items import Estimate, Item, Model, Objective, Reliability, Slice

SCHEMA = 2  # version of the layout of all documents

# --- an entry of `leaderboard.json` ---


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


# --- `leaderboard.json` ---


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


# --- the documents beside it ---


class Curve(Item):
    """One training, an item an epoch."""

    seed: int = Field(description="of the training")
    fold: int = Field(description="of the training")
    chosen: int = Field(description="epoch that the protocol chose, from 1")
    validation: list[float | None] = Field(
        description="the table's metric on the held-out patients, as the training recorded it"
    )
    train_loss: list[float | None] = Field(description="mean over the epoch")


class WorstError(Item):
    """A cycle of which the entry is sure, and wrong."""

    cycle_id: str = Field(description="the cycle")
    recording: str = Field(description="the audio file that it is in")
    patient: str = Field(description="whose it is")
    device: str = Field(description="that recorded it")
    truth: str = Field(description="its class")
    predicted: str = Field(description="what it was called")
    probability: float = Field(description="of the predicted class, mean over seeds")


class EntryDetail(Item):
    """`entries/<id>.json`: all that only an entry's own page and a comparison of two entries need."""

    schema_version: int = Field(default=SCHEMA, alias="schema", description="version of this layout")
    id: str = Field(description="the entry's")
    digest: str = Field(description="of what the document is made of: equal digests, equal documents")
    config: dict[str, Any] = Field(description="the whole experiment config; method and members of an ensemble")
    curves: list[Curve] = Field(description="one a training; empty for an ensemble")
    breakdowns: dict[str, list[Slice]] = Field(
        default_factory=dict,
        description="by class, device, location, sex, age_group, patient; what the corpus does not know is absent",
    )
    reliability: Reliability | None = Field(
        default=None, description="over all seeds and folds; null without predictions"
    )
    cycles_hash: str | None = Field(default=None, description="as in the entry; null: no predictions, nothing below")
    patients: list[list[str]] = Field(default_factory=list, description="[fold][patient]")
    hits: list[list[list[float]]] = Field(
        default_factory=list,
        description="[fold][patient][4]: normal cycles hit, normal cycles, abnormal cycles hit, abnormal cycles; mean "
        "over seeds. The Score is the mean over folds of 50 (sum0 / sum1 + sum2 / sum3). By accuracy [2]: cycles hit, "
        "cycles; by uar the same two for every class; by sprsound and sprsound_record the four for every seed",
    )
    predicted: str = Field(
        default="", description="a character a cycle: class number in base 36, by the mean probability over seeds"
    )
    labels: str = Field(default="", description="a character a cycle: the true class")
    worst: list[WorstError] = Field(default_factory=list, description="the 12 most confident mistakes")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class BoardDetail(Item):
    """`boards/<id>.json`: the tested cycles, in the order of `predicted` and `labels` of the board's entries."""

    schema_version: int = Field(default=SCHEMA, alias="schema", description="version of this layout")
    id: str = Field(description="the board's")
    classes: list[str] = Field(description="in the order of the class numbers")
    cycles_hash: str = Field(description="only entries with the same one can be compared cycle by cycle")
    cycle_ids: list[str] = Field(description="fold after fold")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
