"""A home with trained fold runs and a registry on a real MLflow database, for the tests of registered models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feature_store.settings import Settings
from orchestrator.registry.registry import Registry
from orchestrator.registry.version import Registered
from orchestrator.tracking.client import experiment_id
from search_spaces.overrides import merge
from tests.support.leaderboard_results import Recipe, Side, fold_result, publish
from tests.support.tiny_sweep import TINY_FEATURE
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.results import FoldResult

NAME = "icbhi-lungsound4"
BASE: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "crnn", "hidden": 8},
    "objective": {"name": "ce"},
    "training": {"epochs": 2, "batch_size": 16, "protocol": "validation"},
}
SEARCHED = Side("official-inner2", recordings=24, recordings_listed=24, patients=30, cycles=400, both_sides=())

Train = Callable[..., tuple[ExperimentConfig, list[FoldResult]]]
Register = Callable[..., Registered]


@pytest.fixture(name="home", scope="module")
def home_fixture(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home for this file; fold runs are trained in it once."""
    return replace(Settings.load(tmp_path_factory.mktemp("registry")), store=Settings.load(small_home).store)


@pytest.fixture(name="train", scope="module")
def train_fixture(home: Settings) -> Train:
    site = Site(home.store, home.results, str(home.cache), str(home.weights), device="cpu")

    def run(seeds: tuple[int, ...] = (0,), **changes: Any) -> tuple[ExperimentConfig, list[FoldResult]]:
        config = ExperimentConfig.parse(merge(BASE, changes))
        return config, [run_fold(FoldRun(config, "official", 0, seed), site) for seed in seeds]

    return run


@pytest.fixture(name="registered_at")
def registered_at_fixture(
    home: Settings, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The home's store and results, with an empty MLflow of the test's own, under a policy that takes one seed."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "policy.yaml").write_text("name: one seed\nseeds: {at_least: 1}\n")
    monkeypatch.setenv("LUNGTUNE_POLICY", str(tmp_path / "policy.yaml"))
    return replace(home, home=tmp_path, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture(name="registry")
def registry_fixture(registered_at: Settings) -> Registry:
    return Registry.open(registered_at)


def searched(registry: Registry, skill: float) -> list[str]:
    """The search's fold runs of a config that is so good, made up: all are tested on the same cycles."""
    recipe = Recipe({"name": "crnn", "hidden": 8, "layers": 2}, skill=skill, lr=0.001 * skill)
    names = [fold_result(recipe, SEARCHED, fold, seed=0)[0].hash for fold in (0, 1)]
    return names if names[0] in registry.results else publish(registry.results, recipe, SEARCHED, (0, 1), [0])


@pytest.fixture(name="register")
def register_fixture(registry: Registry, registered_at: Settings, train: Train) -> Register:
    def promote(skill: float = 1.0, seeds: tuple[int, ...] = (0,), **changes: Any) -> Registered:
        config, results = train(seeds, **changes)
        run = registry.client.create_run(experiment_id(registry.client, NAME, registered_at))
        facts: dict[str, Any] = {"search_value": 51.25, "study": "sweep-1", "run_id": run.info.run_id}
        return registry.register(config, results, search_results=searched(registry, skill), **facts)

    return promote
