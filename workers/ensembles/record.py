"""`EnsembleResult`: an ensemble as it is stored, with its members, their weights and what they reach together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import ConfigDict, Field

from feature_store.metrics import USUAL, Metric
from workers.evaluation import Metrics
from workers.results import Record

SCHEMA = 1
MEANING = 1  # raised whenever the same members and settings would give other numbers
Measure = Literal["score", "accuracy"]
Method = Literal["mean", "score", "softmax", "greedy"]
METHODS: tuple[Method, ...] = get_args(Method)


class Settings(Record):
    """What a method may be told. What it does not use is left at its default, so that equal ensembles have one name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Measure = Field(
        default="score",
        description="score, softmax, greedy: what is measured on held-out patients; `score` is the task's own metric",
    )
    rounds: int = Field(default=50, ge=1, le=1000, description="greedy: of selection")

    def used_by(self, method: Method, metric: Metric = USUAL) -> Settings:
        """The settings without those that the method does not use for a task of that metric."""
        used = {"mean": set(), "score": {"by"}, "softmax": {"by"}, "greedy": {"by", "rounds"}}[method]
        if self.by == metric:  # the task's own, which `score` stands for
            used = used - {"by"}
        return Settings.model_validate(self.model_dump(include=used))

    def measure(self, metric: Metric) -> Metric:
        """What members are weighted by in a task of that metric."""
        return metric if self.by == "score" else self.by


class EnsembleMember(Record):
    """One fold run in an ensemble.

    Attributes:
        hash: of its result.
        weight: within its fold, where all sum to 1; 0 where greedy selection left it out.
        panel: number of the group of members, within the fold, that were judged on the same held-out patients.
        validation_score, test_score: its own metric (`EnsembleResult.metric`) under the ensemble's protocol, percent.
    """

    hash: str
    config_hash: str
    seed: int
    fold: int
    weight: float
    panel: int
    validation_score: float
    test_score: float


class FoldScores(Record):
    """What the ensemble does on one fold.

    Attributes:
        test: of its test side.
        validation: of the held-out patients, where all members of the fold held out the same; else None. Weights were
            chosen on these patients: for `greedy` above all, it flatters.
        patients: of the test side.
    """

    fold: int
    test: Metrics
    validation: Metrics | None
    patients: int


class Overall(Record):
    """Over all folds. With one fold the three numbers are one.

    Attributes:
        score: mean over folds of the task's own metric (`EnsembleResult.metric`), percent.
        cycle_weighted_score: the same, each fold by its number of test cycles.
        pooled: metrics of all folds' predictions put together.
    """

    score: float
    cycle_weighted_score: float
    pooled: Metrics


class EnsembleResult(Record):
    """One ensemble, as it is in `ensemble.json`.

    Attributes:
        data_hash: the members', or where they differ (several features) a hash over all of them.
        compat: switched-on copies of a source system's defects, of any member.
        test_watched: whether a member's training also scored the test side every epoch; nothing flowed back.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    schema_version: int = Field(default=SCHEMA, alias="schema")
    hash: str
    method: Method
    settings: Settings
    protocol: Literal["validation", "last"]
    dataset: str
    task: str
    split: str
    split_hash: str
    data_hash: str
    classes: list[str]
    metric: Metric = Field(default=USUAL, description="what the task's published results are ranked by")
    synthetic: bool
    recordings: int
    recordings_listed: int
    patients_on_both_sides: list[str]
    compat: list[str]
    test_watched: bool
    members: list[EnsembleMember]
    folds: list[FoldScores]
    overall: Overall
    created: str
    lungtune: str
    command: str

    def to_json(self) -> bytes:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1).encode()


def ensemble_hash(members: Iterable[str], method: Method, settings: Settings, protocol: str, metric: Metric) -> str:
    """40 hex digits: the name of an ensemble, whatever the order of its members' hashes.

    The metric decides weights and numbers, and is part of the name where it is not `icbhi4`.
    """
    content = {
        "meaning": MEANING,
        "members": sorted(members),
        "method": method,
        "settings": settings.used_by(method, metric).model_dump(exclude_defaults=True),
        "protocol": protocol,
    }
    if metric != USUAL:
        content["metric"] = metric
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
