"""The registry on a real MLflow database: what a version says, who is champion, and that it predicts as trained."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.model_card import Estimate
from orchestrator.model_card_make import best_seed, make_card
from orchestrator.model_package import save_model
from orchestrator.policy import DEFAULT, Policy, Standing, Verification
from orchestrator.promotion_verify import verify
from orchestrator.registry import Registered, Registry
from orchestrator.tracking_client import connect, experiment_id
from search_spaces.schema import merge
from tests.conftest import TINY_FEATURE
from tests.leaderboard_results import Recipe, Side, fold_result, publish
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel
from workers.results import FoldResult, ResultStore

NAME = "icbhi-lungsound4"
BASE: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "crnn", "hidden": 8},
    "objective": {"name": "ce"},
    "training": {"epochs": 2, "batch_size": 16, "protocol": "validation"},
}

Train = Callable[..., tuple[ExperimentConfig, list[FoldResult]]]
Register = Callable[..., Registered]


@pytest.fixture(scope="module")
def home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home for this file; fold runs are trained in it once."""
    return replace(Settings.load(tmp_path_factory.mktemp("registry")), store=Settings.load(small_home).store)


@pytest.fixture(scope="module")
def train(home: Settings) -> Train:
    site = Site(home.store, home.results, str(home.cache), str(home.weights), device="cpu")

    def run(seeds: tuple[int, ...] = (0,), **changes: Any) -> tuple[ExperimentConfig, list[FoldResult]]:
        config = ExperimentConfig.parse(merge(BASE, changes))
        return config, [run_fold(FoldRun(config, "official", 0, seed), site) for seed in seeds]

    return run


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to lay out a database: it is done once, and copied."""
    home = tmp_path_factory.mktemp("mlflow")
    connect(Settings.load(home)).search_registered_models()
    return home / "mlflow.db"


@pytest.fixture
def registered_at(home: Settings, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The home's store and results, with an empty MLflow of the test's own, under a policy that takes one seed."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "policy.yaml").write_text("name: one seed\nseeds: {at_least: 1}\n")
    monkeypatch.setenv("LUNGTUNE_POLICY", str(tmp_path / "policy.yaml"))
    return replace(home, home=tmp_path, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def registry(registered_at: Settings) -> Registry:
    return Registry.open(registered_at)


def searched(registry: Registry, skill: float) -> list[str]:
    """The search's fold runs of a config that is so good, made up: all are tested on the same cycles."""
    side = Side("official-inner2", recordings=24, recordings_listed=24, patients=30, cycles=400, both_sides=())
    recipe = Recipe({"name": "crnn", "hidden": 8, "layers": 2}, skill=skill, lr=0.001 * skill)
    names = [fold_result(recipe, side, fold, seed=0)[0].hash for fold in (0, 1)]
    return names if names[0] in registry.results else publish(registry.results, recipe, side, (0, 1), [0])


@pytest.fixture
def register(registry: Registry, registered_at: Settings, train: Train) -> Register:
    def promote(skill: float = 1.0, seeds: tuple[int, ...] = (0,), **changes: Any) -> Registered:
        config, results = train(seeds, **changes)
        run = registry.client.create_run(experiment_id(registry.client, NAME, registered_at))
        facts: dict[str, Any] = {"search_value": 51.25, "study": "sweep-1", "run_id": run.info.run_id}
        return registry.register(config, results, search_results=searched(registry, skill), **facts)

    return promote


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
    """While one is judging, the other promotes a better version: the first looks again, and decides anew."""
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
    praised = card.model_copy(update={"score": Estimate(mean=90.0, low=85.0, high=95.0)})
    outcome = {r.rule: r for r in registry.policy.judge(praised, Standing(first.version, first.card), Verification)}
    assert outcome["score"].passed is False and "search's Score" in outcome["score"].detail


def test_tampered_weights_are_caught(registry: Registry, register: Register, registered_at: Settings) -> None:
    registry.policy = Policy.load(DEFAULT)
    version = register(1.0)
    assert version.tags["not_promoted_because"] == "seeds: 1 seed, at least 2 wanted"
    registry.policy = Policy.model_validate({"name": "lenient", "seeds": False})
    (weights,) = registered_at.home.glob("mlflow-artifacts/**/model.safetensors")
    content = load_file(weights)
    name = next(iter(content))
    save_file({**content, name: content[name] + 0.5}, weights)
    assert "SHA-256 differs" in str(registry.verify(version).problem)
    kept = registry.promote(version)
    assert kept.aliases == () and kept.tags["not_promoted_because"].startswith("verified: the weights are not those")


def test_weights_that_say_something_else_are_caught_though_their_hash_was_changed_too(
    registry: Registry, register: Register, registered_at: Settings
) -> None:
    version = register(1.0)
    (weights,) = registered_at.home.glob("mlflow-artifacts/**/model.safetensors")
    content = load_file(weights)
    bias = next(name for name in content if name.endswith("bias") and content[name].shape == (4,))
    save_file({**content, bias: content[bias] + torch.tensor([0.0, 9.0, 0.0, 0.0])}, weights)
    assert version.card is not None
    forged = version.card.model_copy(update={"weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()})
    found = verify(forged, weights.read_bytes(), registry.results, registered_at)
    assert found.problem is None and found.agreement < 0.9
    assert not registry.policy.verified.judge(found)[0]
    inflated = forged.model_copy(update={"score": Estimate(mean=forged.score.mean + 5)})
    assert "not the card's" in str(verify(inflated, weights.read_bytes(), registry.results, registered_at).problem)


def test_a_registered_model_whose_data_are_gone_is_told_and_still_there(
    registry: Registry, register: Register, registered_at: Settings, tmp_path: Path
) -> None:
    version = register(1.0)
    elsewhere = replace(registered_at, store=str(tmp_path / "nowhere"))
    lost = Registry(registry.client, registry.results, elsewhere, registry.policy)
    assert "cannot be run again" in str(lost.verify(version).problem)
    assert "there is no feature store here" in str(lost.verify(version).problem)
    empty = ResultStore.open(str(tmp_path / "results"))
    lost = Registry(registry.client, empty, registered_at, registry.policy)
    assert "fold runs are gone from the result store" in str(lost.verify(version).problem)
    shutil.rmtree(registered_at.home / "mlflow-artifacts")
    assert "files are gone" in str(registry.verify(version).problem)
    with pytest.raises(UserError, match="files are gone"), registry.files(version):
        pass
    assert registry.find(NAME).card == version.card


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
    again = register(1.0)  # the same sweep registers it anew, with a card
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


def test_the_champion_predicts_as_its_fold_run_did(
    registry: Registry,
    register: Register,
    train: Train,
    synthetic_corpus: Path,
    registered_at: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the WAV and the cycle's times, `mlflow.pyfunc` gives the probabilities of the stored logits."""
    _, (result,) = train()
    register()
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, registered_at.mlflow)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")

    stored = registry.results.predictions(result.hash).to_pandas()
    stored = stored[stored["protocol"] == "validation"].merge(
        FeatureStore.open(registered_at.store).cycles("icbhi").to_pandas()[["cycle_id", "recording", "start", "end"]]
    )
    assert len(stored) == result.data.test
    stored["path"] = [str(next(synthetic_corpus.rglob(f"{name}.wav"))) for name in stored["recording"]]
    stored["recording"] = stored["path"]
    expected = pd.DataFrame(softmax(np.stack(stored["logits"]).astype(float), axis=1), columns=result.data.classes)
    predicted = model.predict(stored[["path", "start", "end"]])
    cycles = predicted[predicted["level"] == "cycle"]
    keys = ["recording", "start", "end"]
    both = cycles.merge(pd.concat([stored, expected], axis=1), on=keys, suffixes=("", "_stored"))
    assert len(both) == len(cycles) == len(stored)
    found = both[result.data.classes].to_numpy()
    assert found == pytest.approx(both[[f"{name}_stored" for name in result.data.classes]].to_numpy(), abs=1e-6)
    assert found.std(axis=0).max() > 1e-3
    assert both["label"].tolist() == [result.data.classes[column] for column in found.argmax(axis=1)]
    recordings = predicted[predicted["level"] == "recording"]
    assert recordings["recording"].tolist() == list(dict.fromkeys(stored["path"]))

    path = stored["path"][0]
    for table in (pd.DataFrame({"path": [path]}), pd.DataFrame({"path": [path], "start": [None], "end": [None]})):
        table = table.astype({name: float for name in ("start", "end") if name in table})
        answer = model.predict(table)
        cut = answer[answer["level"] == "cycle"]
        assert len(cut) > 1 and cut["start"].iloc[0] == 0
        assert (cut["end"] - cut["start"]).max() <= 2.0 + 1e-9
        assert cut["start"].tolist()[1:] == cut["end"].tolist()[:-1]
        assert answer[result.data.classes].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_a_model_folder_holds_no_pickle_and_saves_without_a_warning(
    train: Train, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, (result,) = train()
    folder = tmp_path / "model"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        save_model(folder, config, make_card(NAME, config, [result], registry.results), registry.results)
    told = [str(warning.message) for warning in warned] + [record.getMessage() for record in caplog.records]
    told = [text for text in told if text != "Validating input example against model signature"]  # as it should
    assert not [text for text in told if re.search("signature|type hint|not provided|was not found", text)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {"", ".py", ".json", ".yaml", ".yml", ".txt", ".safetensors", ".typed", ".md"}
    assert {path.suffix for path in files} <= kinds
    assert not any(path.read_bytes()[:1] == b"\x80" for path in files if path.suffix != ".safetensors")
    signature = mlflow.models.get_model_info(str(folder)).signature
    assert signature is not None and signature.outputs is not None
    assert signature.inputs.input_names() == ["path", "audio", "samples", "rate", "start", "end", "cycles"]
    assert signature.inputs.required_input_names() == []
    columns = ["row", "recording", "level", "start", "end", "label", "note", *result.data.classes]
    assert signature.outputs.input_names() == columns
    assert [param.name for param in signature.params.params] == ["window_seconds", "hop_seconds"]


AWAY = """
import ast, json, sys
from pathlib import Path
from workers.inference import SoundModel
code, artifacts, audio = map(Path, sys.argv[1:])
predicted = SoundModel(artifacts).predict(audio)
imported = set()
for module in list(sys.modules.values()):
    file = Path(getattr(module, "__file__", None) or "built-in")
    if code in file.parents:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                imported |= {node.module} if isinstance(node, ast.ImportFrom) else {name.name for name in node.names}
own = [name for name in sys.modules if name.split(".")[0] in {"workers", "feature_store"}]
print(json.dumps({
    "probabilities": [one.probabilities.tolist() for one in predicted.cycles],
    "imported": sorted({name.split(".")[0] for name in imported if name.split(".")[0] in sys.modules}),
    "strangers": [name for name in own if code not in Path(sys.modules[name].__file__).parents],
}))
"""


def test_the_folder_alone_predicts(train: Train, registry: Registry, synthetic_corpus: Path, tmp_path: Path) -> None:
    """In a fresh process with the folder's own code, and nothing imported that its requirements do not name."""
    config, (result,) = train()
    folder = tmp_path / "model"
    save_model(folder, config, make_card(NAME, config, [result], registry.results), registry.results)
    audio = str(sorted(synthetic_corpus.rglob("*.wav"))[0])
    command = [sys.executable, "-c", AWAY, str(folder / "code"), str(folder / "artifacts"), audio]
    environment = {**os.environ, "PYTHONPATH": str(folder / "code")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    away = json.loads(done.stdout)
    here = SoundModel(folder / "artifacts").predict(Path(audio)).cycles
    assert np.array(away["probabilities"]) == pytest.approx(np.stack([one.probabilities for one in here]), abs=1e-6)
    assert away["strangers"] == []
    required = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    third_party = set(away["imported"]) - set(sys.stdlib_module_names) - {"workers", "feature_store"}
    assert {"torch", "numpy", "soundfile"} <= third_party <= required


def test_a_result_without_weights_cannot_be_packed(home: Settings, train: Train, registry: Registry) -> None:
    config = ExperimentConfig.parse(merge(BASE, {"model": {"hidden": 3}}))
    site = Site(home.store, home.results, str(home.cache), str(home.weights), device="cpu", keep_weights=False)
    result = run_fold(FoldRun(config, "official", 0, 0), site)
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        make_card(NAME, config, [result], registry.results)


@pytest.mark.parametrize("wrong", ["icbhi-lungsound2", f"{NAME}@champoin", f"{NAME}/7"])
def test_what_is_not_there_is_told_with_the_nearest(wrong: str, registry: Registry, register: Register) -> None:
    with pytest.raises(UserError, match="nothing is registered yet"):
        registry.find(wrong)
    version = register()
    with pytest.raises(UserError, match=rf"no registered model '{wrong}' \(did you mean '{NAME}.*{NAME}@champion"):
        registry.find(wrong)
    assert registry.find(f"{NAME}/{version.version}") == registry.find(NAME) == registry.champion(NAME)
