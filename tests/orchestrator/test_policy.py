"""The promotion policy: each rule on a card of its own, and the file that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import UserError
from orchestrator.registry.card.card import CardEstimate, ModelCard
from orchestrator.registry.decision import Decision
from orchestrator.registry.policy import DEFAULT, Policy, RuleOutcome, Standing, Verification
from tests.support.model_cards import a_card

SHIPPED = Policy.load(DEFAULT)
GOOD = Verification(agreement=1.0, score=56.0, stored_score=56.0, cycles=2756)


def judge(card: ModelCard, champion: ModelCard | None = None, policy: Policy = SHIPPED) -> dict[str, RuleOutcome]:
    standing = Standing("1", champion) if champion else None
    return {outcome.rule: outcome for outcome in policy.judge(card, standing, lambda: GOOD)}


def interval(low: float, high: float) -> CardEstimate:
    return CardEstimate(mean=(low + high) / 2, low=low, high=high)


def with_search(card: ModelCard, score: CardEstimate | None, **changes: Any) -> ModelCard:
    assert card.search is not None
    return card.model_copy(update={"search": card.search.model_copy(update={"score": score, **changes})})


def test_a_first_champion_needs_every_rule_that_needs_no_predecessor() -> None:
    outcomes = judge(a_card())
    assert {rule: outcome.passed for rule, outcome in outcomes.items()} == dict.fromkeys(
        ("complete", "seeds", "honest", "compat", "leakage", "score", "verified"), True
    )
    assert outcomes["score"].detail == "there is no champion yet"


@pytest.mark.parametrize(
    ("rule", "changes", "said"),
    [
        ("complete", {"runs": [(0, 0), (1, 0)]}, "1 of 3 fold runs are missing: seed 2 fold 0"),
        ("complete", {"folds": 5}, "12 of 15 fold runs are missing: seed 0 fold 1, seed 0 fold 2, seed 0 fold 3"),
        ("seeds", {"seeds": [0], "runs": [(0, 0)]}, "1 seed, at least 2 wanted"),
        ("honest", {"protocol": "test_best"}, "protocol 'test_best', allowed: validation, last"),
        ("compat", {"compat": ["augment.gate"]}, "switched on: augment.gate"),
        ("leakage", {"patients_on_both_sides": ["156", "101"]}, "patients on both sides: 101 (official)"),
        ("leakage", {"dataset": "aicup"}, "patients on both sides: 156 (official), 218 (official)"),
    ],
)
def test_each_rule_refuses_what_it_is_for_and_nothing_else_does(rule: str, changes: dict, said: str) -> None:
    outcomes = judge(a_card(**changes))
    assert outcomes[rule].passed is False and outcomes[rule].detail == said
    assert outcomes["verified"].passed is None  # running the weights again would change nothing
    assert all(outcome.passed for name, outcome in outcomes.items() if name not in (rule, "verified"))
    off = SHIPPED.model_validate({**SHIPPED.model_dump(), rule: False})
    assert rule not in judge(a_card(**changes), policy=off)


def test_a_leak_between_the_search_s_folds_refuses_too() -> None:
    leaking = with_search(a_card(), interval(50, 60), patients_on_both_sides=["130"])
    assert judge(leaking)["leakage"].detail == "patients on both sides: 130 (official-inner5)"


@pytest.mark.parametrize(("ours", "theirs", "passed"), [(50.2, 50.1, True), (50.1, 50.1, False), (49.0, 50.1, False)])
def test_the_lower_bounds_over_the_search_s_folds_are_compared(ours: float, theirs: float, passed: bool) -> None:
    """Whatever the mean, the upper bound and the test side say."""
    new = with_search(a_card(score=interval(10, 20)), interval(ours, 55))
    old = with_search(a_card(score=interval(60, 70)), interval(theirs, 80))
    outcome = judge(new, old)["score"]
    assert outcome.passed is passed
    word = "above" if passed else "not above"
    assert outcome.detail == f"lower bound {ours:.2f} of the search's Score is {word} {theirs:.2f} of version 1"


def test_a_policy_may_compare_the_test_side() -> None:
    on_test = Policy.model_validate({"name": "as published", "score": {"compare": "test"}})
    new = with_search(a_card(score=interval(61, 63)), interval(10, 20))
    old = with_search(a_card(score=interval(60, 70)), interval(60, 80))
    assert judge(new, old, on_test)["score"].passed is True
    assert judge(old, new, on_test)["score"].passed is False
    assert "of the test side's Score" in judge(new, old, on_test)["score"].detail


@pytest.mark.parametrize("changes", [{"split": "official-inner3"}, {"folds": [0, 1]}, {"score": None}])
def test_searches_over_other_folds_are_not_compared(changes: dict) -> None:
    new = with_search(a_card(score=interval(61, 63)), **{"score": interval(90, 95), **changes})
    old = with_search(a_card(score=interval(60, 70)), interval(60, 80))
    outcome = judge(new, old)["score"]
    assert outcome.passed is True and "test side's Score is above" in outcome.detail
    assert outcome.detail.endswith("the two searches cannot be compared")
    strict = Policy.model_validate({"name": "strict", "score": {"otherwise": "refuse"}})
    assert judge(new, old, strict)["score"].passed is False


def test_a_task_s_own_metric_is_compared_and_named() -> None:
    new = with_search(a_card(metric="accuracy"), interval(70.5, 80))
    old = with_search(a_card(metric="accuracy"), interval(70.0, 80))
    said = "lower bound 70.50 of the search's accuracy is above 70.00 of version 1"
    assert judge(new, old)["score"] == RuleOutcome(rule="score", passed=True, detail=said)
    on_test = Policy.model_validate({"name": "as published", "score": {"compare": "test"}})
    assert "of the test side's accuracy is not above" in judge(new, old, on_test)["score"].detail
    again = Verification(metric="uar", agreement=1.0, score=56.0, stored_score=55.5, cycles=100)
    assert SHIPPED.verified.judge(again)[1].endswith("on 100.0 % of 100 cycles, UAR 56.00 for 55.50")


def test_a_champion_of_another_metric_compares_with_nothing() -> None:
    """An older lungtune registered every task by the Score: 70 of one and 50 of the other are no two of a kind."""
    new, old = (with_search(a_card(metric=metric), interval(low, 80)) for metric, low in (("uar", 50), ("icbhi4", 70)))
    outcome = judge(new, old)["score"]
    said = "an older lungtune registered version 1 by its Score, which UAR does not compare with"
    assert outcome.passed is True and outcome.detail == said


def test_another_feature_of_the_same_cycles_is_no_other_data() -> None:
    new = with_search(a_card(feature_id="mel-0123456789ab", data_hash="e" * 16), interval(55, 60))
    outcome = judge(new, with_search(a_card(), interval(50, 60)))["score"]
    assert outcome.passed is True and "lower bound 55.00 of the search's Score" in outcome.detail


def test_without_an_interval_nothing_is_above_anything() -> None:
    new, old = (with_search(a_card(), CardEstimate(mean=mean)) for mean in (90.0, 50.0))
    outcome = judge(new, old)["score"]
    assert outcome.passed is False and "too few patients" in outcome.detail


@pytest.mark.parametrize(
    ("changes", "larger"),
    [
        ({"recordings": 920, "split_hash": "e" * 16}, True),
        ({"split": "five-fold", "split_hash": "e" * 16}, True),
        ({"data_hash": "e" * 16, "recordings": 199}, True),
        ({"recordings": 100, "split_hash": "e" * 16}, False),
        ({"recordings": 920, "synthetic": True}, False),
    ],
)
def test_a_champion_of_other_data_is_replaced_by_no_smaller_ones(changes: dict, larger: bool) -> None:
    new, old = a_card(score=interval(10, 20), **changes), a_card(recordings=199, recordings_listed=920)
    outcome = judge(new, old)["score"]
    assert outcome.passed is larger and "trained on other data" in outcome.detail
    for choice, passed in (("always", True), ("never", False)):
        policy = Policy.model_validate({"name": "x", "score": {"other_data": choice}})
        assert judge(new, old, policy)["score"].passed is passed


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (GOOD, True),
        (Verification(agreement=0.981, score=56.4, stored_score=56.0, cycles=100), True),
        (Verification(agreement=0.97, score=56.0, stored_score=56.0, cycles=100), False),
        (Verification(agreement=0.99, score=56.6, stored_score=56.0, cycles=100), False),
        (Verification(problem="the weights are gone"), False),
    ],
)
def test_the_weights_must_give_the_stored_predictions_again(found: Verification, passed: bool) -> None:
    (*_, outcome) = SHIPPED.judge(a_card(), None, lambda: found)
    assert (outcome.rule, outcome.passed) == ("verified", passed)


def test_a_decision_says_why_and_survives_its_tags() -> None:
    refused = Decision.of(SHIPPED, list(judge(a_card(seeds=[0], runs=[(0, 0)])).values()), "1", "2026-01-01T00:00:00")
    assert not refused.promoted and refused.reason == "seeds: 1 seed, at least 2 wanted"
    assert Decision.of_tags(refused.tags()) == refused
    assert refused.tags()["not_promoted_because"] == refused.reason and "promoted_because" not in refused.tags()
    forced = Decision.of(SHIPPED, refused.rules, "1", "2026-01-01T00:00:00", forced="for a demonstration")
    assert forced.promoted
    assert forced.reason == "forced: for a demonstration (against seeds: 1 seed, at least 2 wanted)"


def test_a_file_switches_rules_and_sets_what_they_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ncompat: off\nseeds: {at_least: 5}\nverified: {agreement: 1.0}\n")
    policy = Policy.load(path)
    assert not policy.compat.enabled and policy.seeds.at_least == 5 and policy.verified.agreement == 1.0
    assert policy.hash != SHIPPED.hash
    assert Policy.load().name == "default"
    monkeypatch.setenv("LUNGTUNE_POLICY", str(path))
    assert Policy.load() == policy and Policy.load(DEFAULT) == SHIPPED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: x\nseedss: on\n", "unknown key 'seedss' (did you mean 'seeds'?"),
        ("name: x\nseeds: {atleast: 3}\n", "unknown key 'seeds.atleast' (did you mean 'at_least'?"),
        ("name: x\nseeds: {at_least: 0}\n", "'seeds.at_least' = 0"),
        ("name: x\nscore: {compare: luck}\n", "'score.compare' = 'luck'"),
        ("seeds: on\n", "'name'"),
        ("- seeds\n", "a policy is a mapping of rules"),
        ("name: [\n", "is not YAML"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_place(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        Policy.load(path)
    assert said in str(raised.value) and "wrong.yaml" in str(raised.value)


def test_a_policy_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such policy file"):
        Policy.load(tmp_path / "none.yaml")
