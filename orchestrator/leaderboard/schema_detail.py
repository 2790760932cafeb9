"""The documents beside `leaderboard.json`, one an entry and one a board: what the ranking does not need."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from orchestrator.analysis.items import Item, Reliability, Slice

SCHEMA = 2  # version of the layout of all documents


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
