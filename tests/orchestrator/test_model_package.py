"""A registered version's package: it predicts as its fold run did, alone, and holds no pickle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.registry.card.build_card import make_card
from orchestrator.registry.package import save_model
from orchestrator.registry.registry import Registry
from search_spaces.overrides import merge
from tests.support.registry_home import BASE, NAME, Register, Train
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel

pytestmark = pytest.mark.slow


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
    monkeypatch.setenv("LUNGTUNE_SERVE_PATHS", str(synthetic_corpus))
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
