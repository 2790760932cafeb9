"""A decision about the champion, what is kept of it, and the list of all champions there have been."""

from __future__ import annotations

import time
import uuid
from typing import Literal

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import BaseModel, ConfigDict, Field

from feature_store.metrics import USUAL, Metric
from orchestrator.registry.policy import Policy, RuleOutcome

DECISION, PROMOTED, NOT_PROMOTED = "promotion", "promoted_because", "not_promoted_because"
HISTORY = "lungtune.champion."
NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's codes for a missing model or alias


class Decision(BaseModel):
    """Whether a version became champion, and why: kept with the version as JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    promoted: bool
    when: str = Field(description="UTC, ISO 8601")
    policy: str
    policy_hash: str
    against: str | None = Field(description="version of the champion that it was compared with; null: there was none")
    rules: list[RuleOutcome]
    forced: str | None = Field(default=None, description="who forced it said why")

    @classmethod
    def of(
        cls, policy: Policy, rules: list[RuleOutcome], against: str | None, when: str, forced: str | None = None
    ) -> Decision:
        passed = all(rule.passed for rule in rules)
        return cls(
            promoted=passed or forced is not None,
            when=when,
            policy=policy.name,
            policy_hash=policy.hash,
            against=against,
            rules=rules,
            forced=forced,
        )

    @property
    def refusing(self) -> list[RuleOutcome]:
        return [rule for rule in self.rules if rule.passed is False]

    @property
    def reason(self) -> str:
        """In a sentence, for people."""
        refused = "; ".join(f"{rule.rule}: {rule.detail}" for rule in self.refusing)
        if self.forced is not None:
            return f"forced: {self.forced}" + (f" (against {refused})" if refused else "")
        if not self.promoted:
            return refused
        score = next((rule.detail for rule in self.rules if rule.rule == "score"), "nothing is compared")
        return f"{score}; every rule of policy '{self.policy}' passes"

    def tags(self) -> dict[str, str]:
        """As tags of the version."""
        return {DECISION: self.model_dump_json(), PROMOTED if self.promoted else NOT_PROMOTED: self.reason}

    @classmethod
    def of_tags(cls, tags: dict[str, str]) -> Decision | None:
        """The version's last decision; None if there was none."""
        return cls.model_validate_json(tags[DECISION]) if tags.get(DECISION) else None


class ChampionRecord(BaseModel):
    """A version became champion. Kept with the registered model, one tag per change, so that nothing is overwritten."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    when: str = Field(description="UTC, ISO 8601")
    reason: str
    score: float = Field(description="test side, mean over seeds, percent")
    metric: Metric = Field(default=USUAL, description="of the score")
    config_hash: str
    kind: Literal["policy", "forced"] = "policy"


def write_decision(client: MlflowClient, name: str, version: str, decision: Decision) -> None:
    """Keep a decision with its version, in place of the one before."""
    tags = decision.tags()
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    for stale in ({PROMOTED, NOT_PROMOTED} - set(tags)) & set(client.get_model_version(name, version).tags):
        client.delete_model_version_tag(name, version, stale)


def write_change(client: MlflowClient, name: str, change: ChampionRecord) -> None:
    """Add a change to a registered model's list, under a key of its own that sorts by time."""
    key = f"{HISTORY}{time.time_ns():020d}.{uuid.uuid4().hex[:8]}"
    client.set_registered_model_tag(name, key, change.model_dump_json())


def read_changes(client: MlflowClient, name: str) -> list[ChampionRecord]:
    """The changes of a registered model's champion, oldest first; empty where there is no such model."""
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise  # a server that is lost, or refuses, has not said that there is none
        return []
    return [ChampionRecord.model_validate_json(tags[key]) for key in sorted(tags) if key.startswith(HISTORY)]
