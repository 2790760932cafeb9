"""Whether a registered version still is what its card says: weights, predictions and data that are not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.registry.card.card import CardEstimate
from orchestrator.registry.policy import DEFAULT, Policy
from orchestrator.registry.registry import Registry
from orchestrator.registry.verification import verify
from tests.support.leaderboard_results import Recipe, fold_result
from tests.support.registry_home import NAME, SEARCHED, Register, searched
from workers.results import ResultStore

pytestmark = pytest.mark.slow


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
    inflated = forged.model_copy(update={"score": CardEstimate(mean=forged.score.mean + 5)})
    assert "not the card's" in str(verify(inflated, weights.read_bytes(), registry.results, registered_at).problem)


@pytest.fixture
def search_result(registry: Registry) -> Iterator[Path]:
    """The folder of one of the search's fold runs, as it was again at the end."""
    (name, _) = searched(registry, 1.0)
    folder = Path(registry.results.storage.uri(f"{name[:2]}/{name}").removeprefix("file://"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


def test_a_search_s_number_that_its_predictions_do_not_give_is_caught(
    registry: Registry, register: Register, search_result: Path
) -> None:
    """No board shows a search's fold runs, and their interval decides who becomes champion."""
    version = register(1.0)
    assert registry.verify(version).problem is None
    content = json.loads((search_result / "result.json").read_text())
    content["protocols"]["validation"]["test"]["icbhi4"]["score"] += 9.0
    (search_result / "result.json").write_text(json.dumps(content))
    told = str(registry.verify(version).problem)
    assert f"of result {search_result.name[:12]} of its search is" in told and "by its predictions" in told
    assert not registry.policy.verified.judge(registry.verify(version))[0]


def test_a_search_that_was_tampered_with_as_a_whole_is_not_the_card_s(
    registry: Registry, register: Register, search_result: Path
) -> None:
    """Predictions and the metrics of `result.json` agree, and are not what was registered."""
    version = register(1.0)
    assert version.card is not None and version.card.search is not None
    other = fold_result(Recipe({"name": "crnn", "hidden": 8, "layers": 2}, skill=3.0), SEARCHED, 0, seed=0)
    content = json.loads((search_result / "result.json").read_text())
    better = other[0].model_dump(mode="json", by_alias=True)
    (search_result / "result.json").write_text(json.dumps({**content, "protocols": better["protocols"]}))
    (search_result / "predictions.parquet").write_bytes(other[1])
    told = str(registry.verify(version).problem)
    assert "its search's predictions give a Score of" in told
    assert f"not the card's {version.card.search.score.mean:.2f}" in told  # type: ignore[union-attr]


def test_predictions_without_the_card_s_protocol_are_told_and_raise_nothing(
    registry: Registry, register: Register, search_result: Path
) -> None:
    version = register(1.0)
    table = pq.read_table(search_result / "predictions.parquet")
    pq.write_table(table.filter(pc.equal(table["protocol"], "last")), search_result / "predictions.parquet")
    told = str(registry.verify(version).problem)
    assert f"result {search_result.name[:12]}: predictions.parquet has no rows of protocol 'validation'" in told


def test_a_search_whose_fold_runs_are_gone_is_not_asked(
    registry: Registry, register: Register, search_result: Path
) -> None:
    version = register(1.0)
    (search_result / "result.json").unlink()
    found = registry.verify(version)
    assert found.problem is None and found.agreement == 1.0


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
