"""The registry on a real MLflow database: what a version says, who is champion, and that it predicts as trained."""

from __future__ import annotations

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
from scipy.special import softmax

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.model_package import save_model
from orchestrator.registry import Registered, Registry, best_seed, describe
from orchestrator.tracking import connect, experiment_id
from search_spaces.schema import merge
from tests.conftest import TINY_FEATURE
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel
from workers.results import FoldResult

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
def registered_at(home: Settings, empty_database: Path, tmp_path: Path) -> Settings:
    """The home's store and results, with an empty MLflow of the test's own."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return replace(home, home=tmp_path, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def registry(registered_at: Settings) -> Registry:
    return Registry.open(registered_at)


@pytest.fixture
def register(registry: Registry, registered_at: Settings, train: Train) -> Register:
    def promote(search_value: float, seeds: tuple[int, ...] = (0,), **changes: Any) -> Registered:
        config, results = train(seeds, **changes)
        run = registry.client.create_run(experiment_id(registry.client, NAME, registered_at))
        return registry.register(config, results, search_value=search_value, study="sweep-1", run_id=run.info.run_id)

    return promote


def test_a_version_says_what_it_is(registry: Registry, register: Register, train: Train, home: Settings) -> None:
    config, results = train((0, 1))
    version = register(51.25, seeds=(0, 1))
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
        "study": "sweep-1",
        "promoted_because": "the first registered version",
    }
    assert {key: tags[key] for key in expected} == expected
    assert version.aliases == ("champion",) and version.score == float(tags["score"])
    assert registry.find(NAME) == replace(version, tags=tags)


def test_registering_again_makes_no_second_version(registry: Registry, register: Register) -> None:
    first, again = register(51.0), register(51.0)
    assert again.version == first.version and again.aliases == ("champion",)
    assert len(registry.versions()) == 1
    more_seeds = register(51.0, seeds=(0, 1))  # another mean, so another version
    assert more_seeds.version != first.version


def test_the_search_s_score_makes_the_champion(registry: Registry, register: Register) -> None:
    first = register(51.0)
    worse = register(50.5, model={"hidden": 4})
    assert worse.aliases == () and worse.version != first.version
    assert registry.find(NAME).version == first.version
    equal = register(51.0, model={"hidden": 5})
    assert equal.aliases == ()  # who was first stays
    better = register(52.0, model={"hidden": 6})
    assert better.aliases == ("champion",)
    champion = registry.find(f"{NAME}@champion")
    assert champion.version == better.version
    assert champion.tags["promoted_because"] == f"search Score 52.0000 above 51.0000 of version {first.version}"
    assert register(52.0, model={"hidden": 6}).tags["promoted_because"] == champion.tags["promoted_because"]
    assert [v.aliases for v in registry.versions()] == [("champion",), (), (), ()]  # newest first
    assert "promoted_because" not in registry.find(f"{NAME}/{worse.version}").tags


def test_newer_data_takes_over_whatever_its_score(registry: Registry, register: Register) -> None:
    first = register(60.0)
    registry.client.set_model_version_tag(NAME, first.version, "data_hash", "0" * 16)
    newer = register(10.0, model={"hidden": 4})
    assert newer.aliases == ("champion",)
    assert newer.tags["promoted_because"] == f"version {first.version} was trained on other data"


def test_the_test_side_does_not_choose_the_seed(train: Train) -> None:
    """Held-out and test Scores are made to disagree."""
    config, (one, other) = train((0, 1))

    def scoring(result: FoldResult, held_out: float, test: float) -> FoldResult:
        content = result.model_dump(by_alias=True)
        chosen = content["protocols"]["validation"]
        chosen["validation"]["icbhi4"]["score"], chosen["test"]["icbhi4"]["score"] = held_out, test
        return FoldResult.model_validate(content)

    results = [scoring(one, 40.0, 90.0), scoring(other, 60.0, 10.0)]
    assert best_seed(config, results).key.seed == 1
    assert describe(config, results, 50.0, "sweep")["weights_seed"] == "1"
    assert describe(config, results, 50.0, "sweep")["score"] == "50.00"
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
    register(51.0)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, registered_at.mlflow)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")

    stored = registry.results.predictions(result.hash).to_pandas()
    stored = stored[stored["protocol"] == "validation"].merge(
        FeatureStore.open(registered_at.store).cycles("icbhi").to_pandas()[["cycle_id", "recording", "start", "end"]]
    )
    assert len(stored) == result.data.test
    stored["path"] = [str(next(synthetic_corpus.rglob(f"{name}.wav"))) for name in stored["recording"]]
    expected = pd.DataFrame(softmax(np.stack(stored["logits"]).astype(float), axis=1), columns=result.data.classes)
    predicted = model.predict(stored[["path", "start", "end"]])
    both = predicted.merge(pd.concat([stored, expected], axis=1), on=["path", "start", "end"], suffixes=("", "_stored"))
    assert len(both) == len(stored)
    found = both[result.data.classes].to_numpy()
    assert found == pytest.approx(both[[f"{name}_stored" for name in result.data.classes]].to_numpy(), abs=1e-6)
    assert found.std(axis=0).max() > 1e-3
    assert both["label"].tolist() == [result.data.classes[column] for column in found.argmax(axis=1)]

    path = stored["path"][0]
    for table in (pd.DataFrame({"path": [path]}), pd.DataFrame({"path": [path], "start": [None], "end": [None]})):
        table = table.astype({name: float for name in ("start", "end") if name in table})
        cut = model.predict(table)
        assert len(cut) > 1 and cut["start"].iloc[0] == 0
        assert (cut["end"] - cut["start"]).max() <= 2.0 + 1e-9
        assert cut["start"].tolist()[1:] == cut["end"].tolist()[:-1]
        assert cut[result.data.classes].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_a_model_folder_holds_no_pickle_and_saves_without_a_warning(
    train: Train, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, (result,) = train()
    folder = tmp_path / "model"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        save_model(folder, config, result, registry.results, describe(config, [result], 51.0, "sweep"))
    told = [str(warning.message) for warning in warned] + [record.getMessage() for record in caplog.records]
    told = [text for text in told if text != "Validating input example against model signature"]  # as it should
    assert not [text for text in told if re.search("signature|type hint|not provided|was not found", text)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {"", ".py", ".json", ".yaml", ".yml", ".txt", ".safetensors", ".typed"}
    assert not any(path.read_bytes()[:1] == b"\x80" for path in files if path.suffix != ".safetensors")
    signature = mlflow.models.get_model_info(str(folder)).signature
    assert signature is not None and signature.outputs is not None
    assert signature.inputs.input_names() == ["path", "start", "end"]
    assert signature.inputs.required_input_names() == ["path"]
    assert signature.outputs.input_names() == ["path", "start", "end", "label", *result.data.classes]


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
    "probabilities": [one.probabilities.tolist() for one in predicted],
    "imported": sorted({name.split(".")[0] for name in imported if name.split(".")[0] in sys.modules}),
    "strangers": [name for name in own if code not in Path(sys.modules[name].__file__).parents],
}))
"""


def test_the_folder_alone_predicts(train: Train, registry: Registry, synthetic_corpus: Path, tmp_path: Path) -> None:
    """In a fresh process with the folder's own code, and nothing imported that its requirements do not name."""
    config, (result,) = train()
    folder = tmp_path / "model"
    save_model(folder, config, result, registry.results, {})
    audio = str(sorted(synthetic_corpus.rglob("*.wav"))[0])
    command = [sys.executable, "-c", AWAY, str(folder / "code"), str(folder / "artifacts"), audio]
    environment = {**os.environ, "PYTHONPATH": str(folder / "code")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    away = json.loads(done.stdout)
    here = SoundModel(folder / "artifacts").predict(Path(audio))
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
        save_model(home.home / "never", config, result, registry.results, {})
    assert not (home.home / "never").exists()


@pytest.mark.parametrize("wrong", ["icbhi-lungsound2", f"{NAME}@champoin", f"{NAME}/7"])
def test_what_is_not_there_is_told_with_the_nearest(wrong: str, registry: Registry, register: Register) -> None:
    with pytest.raises(UserError, match="nothing is registered yet"):
        registry.find(wrong)
    version = register(51.0)
    with pytest.raises(UserError, match=rf"no registered model '{wrong}' \(did you mean '{NAME}.*{NAME}@champion"):
        registry.find(wrong)
    assert registry.find(f"{NAME}/{version.version}") == registry.find(NAME) == registry.champion(NAME)
