"""Searches of MLflow, whose answers come page by page."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from feature_store.settings import Settings
from orchestrator.registry.registry import Registry
from orchestrator.tracking.client import connect, pages

pytestmark = pytest.mark.slow

PAGE = 100  # registered models that MLflow gives at once, unless it is asked for another number


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    return connect(Settings.load(tmp_path))


@pytest.mark.parametrize("at_once", [1, 2, 5, 7])
def test_all_runs_are_found_however_many_a_page_holds(client: MlflowClient, at_once: int) -> None:
    experiment = client.create_experiment("icbhi-lungsound4")
    made = {client.create_run(experiment).info.run_id for _ in range(5)}
    found = [
        run.info.run_id
        for run in pages(lambda token: client.search_runs([experiment], max_results=at_once, page_token=token))
    ]
    assert len(found) == 5 and set(found) == made


def test_a_page_is_asked_for_when_it_is_needed() -> None:
    asked: list[str | None] = []

    def page(token: str | None) -> PagedList[int]:
        asked.append(token)
        return PagedList([len(asked)], "next" if len(asked) < 3 else "")

    assert next(pages(page)) == 1 and asked == [None]
    assert list(pages(page)) == [2, 3] and asked == [None, None, "next"]


def test_the_registry_lists_more_models_than_one_page_holds(tmp_path: Path) -> None:
    registry = Registry.open(Settings.load(tmp_path))
    for number in range(PAGE + 1):
        registry.client.create_registered_model(f"model-{number:03d}")
    assert len(registry.client.search_registered_models()) == PAGE
    registry.client.create_model_version(f"model-{PAGE}", source=str(tmp_path / "model"))
    assert [version.name for version in registry.versions()] == [f"model-{PAGE}"]
