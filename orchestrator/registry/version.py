"""A version of a registered model, read from its tags in MLflow."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError

from feature_store.counted import counted
from feature_store.errors import UserError
from feature_store.metrics import USUAL, Metric
from orchestrator.registry.card.card import ModelCard
from orchestrator.registry.decision import PROMOTED, ChampionRecord, Decision

CHAMPION = "champion"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def score(self) -> float:
        """Test side, mean over seeds, percent, by `metric`."""
        return float(self.tags["score"])

    @property
    def metric(self) -> Metric:
        """The task's own, when it was registered."""
        return cast(Metric, self.tags.get("metric", USUAL))

    @property
    def card(self) -> ModelCard | None:
        """None if an older lungtune registered it.

        Raises:
            UserError: there is one, and it cannot be read.
        """
        try:
            return ModelCard.of_tags(self.tags)
        except ValidationError as error:
            what = f"its model card cannot be read ({counted(error.error_count(), 'problem')})"
            hint = "its tag `card` was changed, or is of another version: run its sweep again, which registers it again"
            raise UserError(what, where=str(self), hint=hint) from error

    @property
    def readable_card(self) -> ModelCard | None:
        """The card, or None where there is none that can be read."""
        with contextlib.suppress(UserError):
            return self.card
        return None

    @property
    def decision(self) -> Decision | None:
        """The last one on whether it becomes champion; None where there is none that can be read."""
        with contextlib.suppress(ValidationError):
            return Decision.of_tags(self.tags)
        return None

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def card_of(version: Registered) -> ModelCard:
    """The version's card.

    Raises:
        UserError: an older lungtune registered it, without one, or it cannot be read.
    """
    card = version.card
    if card is None:
        hint = "run its sweep again: it registers the model again"
        raise UserError("an older lungtune registered it, without a model card", where=str(version), hint=hint)
    return card


def change_to(version: Registered) -> ChampionRecord:
    """The entry of the champions' list that a champion is due, from its own tags."""
    decision = version.decision
    return ChampionRecord(
        version=version.version,
        when=decision.when if decision else "",
        reason=version.tags.get(PROMOTED, ""),
        score=version.score,
        metric=version.metric,
        config_hash=version.tags.get("config_hash", ""),
        kind="forced" if decision and decision.forced is not None else "policy",
    )
