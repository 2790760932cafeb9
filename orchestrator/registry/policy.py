"""The promotion policy: a file of rules, each judging a registered version's model card beside the champion's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from feature_store.counted import counted
from feature_store.errors import UserError
from feature_store.metrics import LABELS, USUAL, Metric
from feature_store.typed_settings import TypedSettings
from feature_store.yaml_files import read_yaml
from orchestrator.registry.card.card import CardEstimate, ModelCard
from workers.config.explain import explain

VARIABLE = "LUNGTUNE_POLICY"
DEFAULT = Path(__file__).parent / "policies" / "default.yaml"


class RuleOutcome(BaseModel):
    """What one rule said. `passed` is null where it was not asked, since another one had refused."""

    model_config = ConfigDict(frozen=True)

    rule: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Standing:
    """The champion that a version is compared with; its card is None if an older lungtune registered it."""

    version: str
    card: ModelCard | None


@dataclass(frozen=True)
class Verification:
    """The registered weights, run again over the test side that their fold run was tested on.

    Attributes:
        problem: why they could not be run or are not what was registered; the numbers are then without meaning.
        metric: of the task.
        agreement: share of the cycles whose predicted class is that of the stored predictions.
        score, stored_score: by the metric, of the weights now, and as stored, in percent.
        cycles: how many were run.
    """

    problem: str | None = None
    metric: Metric = USUAL
    agreement: float = 0.0
    score: float = 0.0
    stored_score: float = 0.0
    cycles: int = 0


class Rule(TypedSettings):
    """Base of the rules."""

    enabled: bool = True


class Complete(Rule):
    """Every seed has every fold of the split."""

    def judge(self, card: ModelCard) -> tuple[bool, str]:
        missing = card.missing_runs
        if missing:
            named = ", ".join(f"seed {seed} fold {fold}" for seed, fold in missing[:3])
            wanted = counted(card.folds * len(card.seeds), "fold run is", "fold runs are")
            return False, f"{len(missing)} of {wanted} missing: {named}"
        return True, f"{card.folds} of {counted(card.folds, 'fold')} done by {counted(len(card.seeds), 'seed')}"


class Seeds(Rule):
    """Enough seeds."""

    at_least: int = Field(default=2, ge=1, le=1000)

    def judge(self, card: ModelCard) -> tuple[bool, str]:
        return len(card.seeds) >= self.at_least, f"{counted(len(card.seeds), 'seed')}, at least {self.at_least} wanted"


class Honest(Rule):
    """The epoch was chosen without the test side."""

    protocols: tuple[Literal["validation", "last"], ...] = Field(default=("validation", "last"), min_length=1)

    def judge(self, card: ModelCard) -> tuple[bool, str]:
        return card.protocol in self.protocols, f"protocol '{card.protocol}', allowed: {', '.join(self.protocols)}"


class Compat(Rule):
    """No copy of a source system's defect is switched on."""

    def judge(self, card: ModelCard) -> tuple[bool, str]:
        return not card.compat, f"switched on: {', '.join(card.compat)}" if card.compat else "no defect is copied"


class Leakage(Rule):
    """No patient is on both sides of the split, or of the search's folds, but for those allowed by name."""

    allowed: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="patients by `dataset/split`; a patient of no list refuses"
    )

    def judge(self, card: ModelCard) -> tuple[bool, str]:
        sides = {card.split: card.patients_on_both_sides}
        if card.search:
            sides[card.search.split] = card.search.patients_on_both_sides
        known, leaking = [], []
        for split, patients in sides.items():
            allowed = self.allowed.get(f"{card.dataset}/{split}", ())
            known += [patient for patient in patients if patient in allowed]
            leaking += [f"{patient} ({split})" for patient in patients if patient not in allowed]
        if leaking:
            return False, f"patients on both sides: {', '.join(leaking)}"
        return True, f"on both sides as published: {', '.join(known)}" if known else "no patient is on both sides"


class Score(Rule):
    """The lower bound of the 95 % interval, by the task's own metric, lies above the champion's lower bound."""

    compare: Literal["search", "test"] = Field(
        default="search", description="search: over the search's folds, inside the training side; test: the test side"
    )
    otherwise: Literal["test", "refuse"] = Field(
        default="test", description="what counts where the two searches were not made on the same folds"
    )
    other_data: Literal["larger", "always", "never"] = Field(
        default="larger", description="whether a champion of other data is replaced, whose number compares with nothing"
    )

    def judge(self, card: ModelCard, champion: Standing | None) -> tuple[bool, str]:
        if champion is None:
            return True, "there is no champion yet"
        than = f"of version {champion.version}"
        if champion.card is None:
            return True, f"version {champion.version} has no model card to compare with"
        if card.metric != champion.card.metric:
            other = f"an older lungtune registered version {champion.version} by its {champion.card.metric_label}"
            return True, f"{other}, which {card.metric_label} does not compare with"
        if not card.same_data(champion.card):
            return self._other_data(card, champion.card, champion.version)
        if self.compare == "test":
            return _above(card.score, champion.card.score, f"test side's {card.metric_label}", than)
        ours, theirs = card.search, champion.card.search
        if ours and theirs and ours.cohort == theirs.cohort and ours.score and theirs.score:
            return _above(ours.score, theirs.score, f"search's {card.metric_label}", than)
        if self.otherwise == "refuse":
            return False, f"its search and that {than} cannot be compared: other folds, or their fold runs are gone"
        passed, detail = _above(card.score, champion.card.score, f"test side's {card.metric_label}", than)
        return passed, f"{detail}; the two searches cannot be compared"

    def _other_data(self, card: ModelCard, champion: ModelCard, version: str) -> tuple[bool, str]:
        smaller = card.recordings < champion.recordings or (card.synthetic and not champion.synthetic)
        passed = self.other_data == "always" or (self.other_data == "larger" and not smaller)
        sizes = f"{_data(card)}, version {version} on {_data(champion)}"
        return passed, f"trained on other data ({sizes}), so the numbers cannot be compared"


class Verified(Rule):
    """The registered weights give the stored predictions again."""

    agreement: float = Field(
        default=0.98,
        gt=0,
        le=1,
        description="least share of cycles with the stored class; bf16 and fp32 differ a little",
    )
    score_within: float = Field(
        default=0.5, ge=0, le=100, description="largest difference by the task's metric, in points"
    )

    def judge(self, found: Verification) -> tuple[bool, str]:
        if found.problem:
            return False, found.problem
        difference = abs(found.score - found.stored_score)
        detail = (
            f"the registered weights agree with the stored predictions on {100 * found.agreement:.1f} % of "
            f"{counted(found.cycles, 'cycle')}, {LABELS[found.metric]} {found.score:.2f} for {found.stored_score:.2f}"
        )
        return found.agreement >= self.agreement and difference <= self.score_within, detail


def _switch(value: Any) -> Any:
    """``on`` and ``off`` for a rule as it is, and for none."""
    return {"enabled": value} if isinstance(value, bool) else value


class Policy(TypedSettings):
    """Which rules a version must pass to become champion."""

    name: str = Field(min_length=1)
    complete: Annotated[Complete, BeforeValidator(_switch)] = Complete()
    seeds: Annotated[Seeds, BeforeValidator(_switch)] = Seeds()
    honest: Annotated[Honest, BeforeValidator(_switch)] = Honest()
    compat: Annotated[Compat, BeforeValidator(_switch)] = Compat()
    leakage: Annotated[Leakage, BeforeValidator(_switch)] = Leakage()
    score: Annotated[Score, BeforeValidator(_switch)] = Score()
    verified: Annotated[Verified, BeforeValidator(_switch)] = Verified()

    @classmethod
    def load(cls, path: str | Path | None = None) -> Policy:
        """Read a policy: from the file given, from the one that `LUNGTUNE_POLICY` names, or as shipped.

        Raises:
            UserError: the file is not there, or is no policy.
        """
        place = path or os.environ.get(VARIABLE) or DEFAULT
        if not Path(place).is_file():
            raise UserError(
                "no such policy file", where=str(place), hint=f"without it the shipped {DEFAULT.name} counts"
            )
        content = read_yaml(place)
        if not isinstance(content, dict):
            raise UserError("a policy is a mapping of rules", where=str(place), hint=f"begin with a copy of {DEFAULT}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(explain(error, cls), where=str(place)) from error

    @property
    def hash(self) -> str:
        """12 hex digits over its rules, defaults included."""
        return hashlib.sha256(self.model_dump_json(exclude={"name"}).encode()).hexdigest()[:12]

    def judge(
        self, card: ModelCard, champion: Standing | None, verify: Callable[[], Verification]
    ) -> list[RuleOutcome]:
        """What each rule that is on says of a version.

        Args:
            card: of the version.
            champion: who it is compared with.
            verify: runs the registered weights again; asked last, and only if no other rule has refused.
        """
        outcomes = [
            RuleOutcome(rule=name, passed=passed, detail=detail)
            for name in ("complete", "seeds", "honest", "compat", "leakage")
            if (rule := getattr(self, name)).enabled
            for passed, detail in [rule.judge(card)]
        ]
        if self.score.enabled:
            passed, detail = self.score.judge(card, champion)
            outcomes.append(RuleOutcome(rule="score", passed=passed, detail=detail))
        if self.verified.enabled:
            if all(outcome.passed for outcome in outcomes):
                passed, detail = self.verified.judge(verify())
                outcomes.append(RuleOutcome(rule="verified", passed=passed, detail=detail))
            else:
                outcomes.append(RuleOutcome(rule="verified", passed=None, detail="not run: another rule refuses"))
        return outcomes


def _above(ours: CardEstimate, theirs: CardEstimate, number: str, than: str) -> tuple[bool, str]:
    """Lower bound against lower bound; without an interval nothing is above anything."""
    if ours.low is None or theirs.low is None:
        return False, f"the {number} has no interval: too few patients were tested"
    word = "above" if ours.low > theirs.low else "not above"
    return ours.low > theirs.low, f"lower bound {ours.low:.2f} of the {number} is {word} {theirs.low:.2f} {than}"


def _data(card: ModelCard) -> str:
    return f"{counted(card.recordings, 'synthetic recording' if card.synthetic else 'recording')}, split {card.split}"
