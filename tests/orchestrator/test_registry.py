"""The registry on a real MLflow database: what a version says, who is champion and has been, and how it is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.registry.card.build_card import best_seed
from orchestrator.registry.card.card import CardEstimate
from orchestrator.registry.policy import DEFAULT, Policy, Standing, Verification
from orchestrator.registry.registry import Registry
from orchestrator.registry.version import Registered
from tests.support.registry_home import NAME, Register, Train
from workers.results import FoldResult

pytestmark = pytest.mark.slow


def test_a_version_says_what_it_is(registry: Registry, register: Register, train: Train, home: Settings) -> None:
    config, results = train((0, 1))
    version = register(seeds=(0, 1))
    tags = dict(registry.client.get_model_version(NAME, version.version).tags)
    tests = [result.protocols["validation"].test.icbhi4 for result in results]
    for tag, values in (
        ("score", [test.score for test in tests]),
        ("specificity", [test.specificity for test in tests]),
        ("sensitivity", [test.sensitivity for test in tests]),
    ):
        assert float(tags[tag]) == pytest.approx(np.mean(values), abs=0.006)
    assert float(tags["score_sd"]) == pytest.approx(np.std([test.score for test in tests], ddof=1), abs=0.006)
    expected = {
        "split": "official",
        "protocol": "validation",
        "config_hash": config.config_hash,
        "data_hash": results[0].key.data_hash,
        "feature_id": config.feature.feature_id,
        "split_hash": FeatureStore.open(home.store).split("icbhi", "official", task="lungsound4").hash,
        "seeds": "0,1",
        "synthetic": "true",
        "search_objective": "51.2500",
        "search_split": "official-inner2",
        "study": "sweep-1",
        "promoted_because": "there is no champion yet; every rule of policy 'one seed' passes",
    }
    assert {key: tags[key] for key in expected} == expected
    assert version.aliases == ("champion",) and version.score == float(tags["score"])
    assert registry.find(NAME) == replace(version, tags=tags)
    assert registry.find("champion").version == version.version


def test_every_rule_s_outcome_is_kept(registry: Registry, register: Register) -> None:
    decision = register().decision
    assert decision is not None and decision.promoted and decision.against is None
    assert {rule.rule: rule.passed for rule in decision.rules} == dict.fromkeys(
        ("complete", "seeds", "honest", "compat", "leakage", "score", "verified"), True
    )
    (verified,) = (rule.detail for rule in decision.rules if rule.rule == "verified")
    assert "agree with the stored predictions on 100.0 % of" in verified


def test_registering_again_makes_no_second_version(registry: Registry, register: Register) -> None:
    first, again = register(), register()
    assert again == first and again.aliases == ("champion",)
    assert len(registry.versions()) == len(registry.history(NAME)) == 1
    more_seeds = register(seeds=(0, 1))  # another mean, so another version
    assert more_seeds.version != first.version


def test_the_search_s_lower_bound_makes_the_champion(registry: Registry, register: Register) -> None:
    first = register(1.0)
    worse = register(0.5, model={"hidden": 4})
    assert worse.aliases == () and worse.version != first.version
    assert registry.find(NAME).version == first.version
    equal = register(1.0, seeds=(0, 1))
    assert equal.aliases == ()  # who was first stays
    better = register(2.0, model={"hidden": 6})
    assert better.aliases == ("champion",)
    champion = registry.find(f"{NAME}@champion")
    assert champion.version == better.version
    low, before = better.tags["search_low"], first.tags["search_low"]
    assert float(low) > float(before) > float(worse.tags["search_low"])
    said = f"lower bound {low} of the search's Score is above {before} of version {first.version}"
    assert champion.tags["promoted_because"] == f"{said}; every rule of policy 'one seed' passes"
    assert register(2.0, model={"hidden": 6}) == better
    assert [v.aliases for v in registry.versions()] == [("champion",), (), (), ()]  # newest first
    kept = registry.find(f"{NAME}/{worse.version}")
    assert "promoted_because" not in kept.tags
    said = f"lower bound {worse.tags['search_low']} of the search's Score is not above {before} of version"
    assert kept.tags["not_promoted_because"] == f"score: {said} {first.version}"


def test_the_history_lists_every_champion_oldest_first(registry: Registry, register: Register) -> None:
    assert registry.history(NAME) == []
    first, second = register(1.0), register(2.0, model={"hidden": 6})
    register(0.5, model={"hidden": 4})
    registry.promote(registry.find(str(first)), forced="version 2 hums")
    history = registry.history(NAME)
    assert [change.version for change in history] == [first.version, second.version, first.version]
    assert [change.kind for change in history] == ["policy", "policy", "forced"]
    assert [change.when for change in history] == sorted(change.when for change in history)
    assert history[1].reason == second.tags["promoted_because"] and history[1].score == second.score
    assert history[1].config_hash == second.tags["config_hash"]
    assert history[2].reason.startswith("forced: version 2 hums (against score: lower bound")
    assert registry.find(NAME).version == first.version
    assert "not_promoted_because" not in registry.find(NAME).tags


def test_a_driver_killed_after_it_moved_the_alias_is_in_the_history(registry: Registry, register: Register) -> None:
    first = register(1.0)
    (key,) = [key for key in registry.client.get_registered_model(NAME).tags if key.startswith("lungtune.champion.")]
    kept = registry.history(NAME)
    registry.client.delete_registered_model_tag(NAME, key)
    assert registry.history(NAME) == kept and kept[0].version == first.version


def test_two_drivers_at_once_leave_the_better_champion(
    registry: Registry, registered_at: Settings, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is judging, the other promotes a better version: the first looks again, and decides again."""
    lenient, registry.policy = registry.policy, Policy.load(DEFAULT)  # which makes nobody champion by one seed
    good, better = register(1.0, model={"hidden": 4}), register(2.0, model={"hidden": 6})
    assert good.aliases == better.aliases == ()
    one, other = (Registry(registry.client, registry.results, registered_at, lenient) for _ in range(2))
    judge, began = one.verify, []

    def slowly(version: Registered) -> Verification:
        if not began:
            began.append(version)
            assert other.promote(better).aliases == ("champion",)
        return judge(version)

    monkeypatch.setattr(one, "verify", slowly)
    late = one.promote(good)
    assert late.aliases == () and registry.find(NAME).version == better.version
    assert late.decision is not None and late.decision.against == better.version
    assert [change.version for change in registry.history(NAME)] == [better.version]


def test_a_version_is_judged_again_only_where_something_changed(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, worse = register(1.0), register(0.5, model={"hidden": 4})
    before = worse.decision
    assert register(0.5, model={"hidden": 4}).decision == before
    registry.policy = Policy.model_validate({"name": "other", "seeds": {"at_least": 3}})
    again = register(0.5, model={"hidden": 4})
    assert again.decision != before and again.tags["not_promoted_because"].startswith("seeds: 1 seed, at least 3")
    assert registry.find(NAME).version == first.version


def test_what_the_test_side_says_does_not_move_the_champion(registry: Registry, register: Register) -> None:
    """The version's test Score is far above the champion's; its search was worse."""
    first = register(1.0)
    worse = register(0.5, model={"hidden": 4})
    card = worse.card
    assert card is not None
    praised = card.model_copy(update={"score": CardEstimate(mean=90.0, low=85.0, high=95.0)})
    outcome = {r.rule: r for r in registry.policy.judge(praised, Standing(first.version, first.card), Verification)}
    assert outcome["score"].passed is False and "search's Score" in outcome["score"].detail


def test_a_version_without_a_card_is_compared_with_nothing_and_promoted_only_by_force(
    registry: Registry, register: Register
) -> None:
    first = register(1.0)
    for tag in ("card", "promotion"):
        registry.client.delete_model_version_tag(NAME, first.version, tag)
    second = register(0.1, model={"hidden": 4})
    assert second.aliases == ("champion",)
    assert "version 1 has no model card to compare with" in second.tags["promoted_because"]
    old = registry.find(f"{NAME}/1")
    with pytest.raises(UserError, match="an older lungtune registered it"):
        registry.promote(old)
    assert registry.promote(old, forced="it was good").aliases == ("champion",)
    again = register(1.0)  # the same sweep registers it again, with a card
    assert again.version == "3" and again.card is not None


def test_several_champions_have_to_be_named(registry: Registry, register: Register) -> None:
    version = register(1.0)
    registry.client.create_registered_model("voice-voice5")
    source = registry.client.get_model_version(NAME, version.version).source
    registry.client.create_model_version("voice-voice5", source=source)
    registry.client.set_registered_model_alias("voice-voice5", "champion", "1")
    with pytest.raises(UserError, match=rf"there are 2 champions .name the model: .*{NAME}@champion, voice-voice5@ch"):
        registry.find("champion")


def test_the_test_side_does_not_choose_the_seed(train: Train) -> None:
    """Held-out and test Scores are made to disagree."""
    config, (one, other) = train((0, 1))

    def scoring(result: FoldResult, held_out: float, test: float) -> FoldResult:
        content = result.model_dump(by_alias=True)
        chosen = content["protocols"]["validation"]
        chosen["validation"]["icbhi4"]["score"], chosen["test"]["icbhi4"]["score"] = held_out, test
        return FoldResult.model_validate(content)

    assert best_seed(config, [scoring(one, 40.0, 90.0), scoring(other, 60.0, 10.0)]).key.seed == 1
    assert best_seed(config, [scoring(one, 50.0, 1.0), scoring(other, 50.0, 2.0)]).key.seed == 0


@pytest.mark.parametrize("wrong", ["icbhi-lungsound2", f"{NAME}@champoin", f"{NAME}/7"])
def test_what_is_not_there_is_told_with_the_nearest(wrong: str, registry: Registry, register: Register) -> None:
    with pytest.raises(UserError, match="nothing is registered yet"):
        registry.find(wrong)
    version = register()
    with pytest.raises(UserError, match=rf"no registered model '{wrong}' \(did you mean '{NAME}.*{NAME}@champion"):
        registry.find(wrong)
    assert registry.find(f"{NAME}/{version.version}") == registry.find(NAME) == registry.champion(NAME)
