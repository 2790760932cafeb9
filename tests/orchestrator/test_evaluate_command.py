"""`lungtune evaluate`: Scores again, from predictions, from weights, from a checkpoint.

Specified in docs/specification.md, E7, E8.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from feature_store.settings import Settings
from search_spaces.overrides import merge
from tests.conftest import Run
from tests.support.tiny_sweep import TINY_CONFIG
from workers.results import WEIGHTS, ResultStore

pytestmark = pytest.mark.slow

CONFIG = merge(TINY_CONFIG, {"model": {"name": "ast", "size": "tiny", "depth": 1, "patch": 8, "stride": 8}})


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


@pytest.fixture
def finished(run: Run, config: str) -> dict:
    return json.loads(run("train", config, "--json")[1])["runs"][0]


@pytest.mark.spec("E8")
def test_weights_and_predictions_give_the_score_of_the_training(run: Run, finished: dict) -> None:
    code, printed, _ = run("evaluate", finished["hash"][:8], "--from-weights", "--json")
    assert code == 0
    rows = {row["protocol"]: row for row in json.loads(printed)}
    for protocol, row in rows.items():
        assert row["metrics"]["icbhi4"]["score"] == pytest.approx(finished[protocol]["score"])
    assert rows["last"]["same"] is True and rows["last"]["largest_difference"] < 1e-4
    code, printed, _ = run("evaluate", finished["hash"])
    assert code == 0 and f"{finished['last']['score']:.2f}" in printed


@pytest.mark.spec("E7")
def test_devices_together_are_the_whole_test_side(run: Run, finished: dict) -> None:
    (row, *_) = json.loads(run("evaluate", finished["hash"], "--json")[1])
    devices = row["devices"].values()
    assert sum(metrics["n"] for metrics in devices) == row["metrics"]["n"] and len(devices) > 1
    cells = [[sum(m["confusion"][i][j] for m in devices) for j in range(4)] for i in range(4)]
    assert cells == row["metrics"]["confusion"]


def test_weights_that_no_longer_give_the_predictions_are_told(run: Run, finished: dict, settings: Settings) -> None:
    results = ResultStore.open(settings.results)
    path = next(Path(settings.results.removeprefix("file://")).rglob(WEIGHTS))
    weights = load_file(path)
    weights["head.1.bias"] = weights["head.1.bias"] + torch.tensor([0.0, 9.0, 0.0, 0.0])
    save_file(weights, path)
    code, printed, told = run("evaluate", finished["hash"], "--from-weights")
    assert code == 1 and "DIFFER" in printed and "no longer" in told
    assert results.find(finished["hash"]).hash == finished["hash"]


@pytest.mark.spec("E8")
def test_a_checkpoint_of_patch_mix_is_evaluated_without_training(
    run: Run, finished: dict, config: str, settings: Settings, tmp_path: Path
) -> None:
    """The layout that Patch-Mix writes: backbone under timm's names, classifier apart, arguments pickled."""
    weights = load_file(next(Path(settings.results.removeprefix("file://")).rglob(WEIGHTS)))
    names = {"backbone.patch_embed.": "v.patch_embed.proj.", "backbone.": "v."}
    model = {}
    for name, value in weights.items():
        if name.startswith("backbone."):
            old = next(prefix for prefix in names if name.startswith(prefix))
            model[names[old] + name.removeprefix(old)] = value
    classifier = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    content = {"args": argparse.Namespace(model="ast"), "model": model, "epoch": 3, "classifier": classifier}
    torch.save(content, tmp_path / "best.pth")
    code, printed, _ = run("evaluate", "--config", config, "--weights", str(tmp_path / "best.pth"), "--json")
    assert code == 0
    (row,) = json.loads(printed)
    assert row["metrics"]["icbhi4"]["score"] == pytest.approx(finished["last"]["score"])
    assert len(ResultStore.open(settings.results).hashes()) == 1, "nothing is stored"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ffffff",), "no result begins with 'ffffff'"),
        ((), "--config"),
        (("--weights", "best.pth"), "--config"),
        (("--config", "icbhi_ce", "--weights", "none.pth"), "no such file"),
        (("--config", "icbhi_cee", "--weights", __file__), "icbhi_ce"),
    ],
)
def test_bad_input(run: Run, arguments: tuple[str, ...], told: str) -> None:
    code, _, error = run("evaluate", *arguments)
    assert code == 2 and told in error
