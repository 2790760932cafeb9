"""The site of one installation, with a real MLflow registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from leaderboard_results import RECIPES, Side, publish

from feature_store.settings import Settings
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site import build_site, registered_models
from orchestrator.tracking import connect
from workers.results import ResultStore

MODEL = "icbhi-lungsound4"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two registered configs: the first has two versions and is the champion by its older one."""
    settings = Settings.load(tmp_path_factory.mktemp("home"), environ={})
    client = connect(settings)
    client.create_registered_model(MODEL)
    for recipe in (RECIPES[2], RECIPES[2], RECIPES[4]):
        tags = {"config_hash": recipe.config_hash}
        client.create_model_version(MODEL, source=str(settings.home / "model"), tags=tags)
    client.set_registered_model_alias(MODEL, "champion", "1")
    return settings


def test_the_registrys_models_are_found_by_config(settings: Settings):
    assert registered_models(settings) == {
        RECIPES[2].config_hash: {"name": MODEL, "version": "1", "alias": "champion"},
        RECIPES[4].config_hash: {"name": MODEL, "version": "3", "alias": None},
    }


def test_the_site_marks_them(settings: Settings, tmp_path: Path):
    store = ResultStore.open(settings.results)
    for recipe in (RECIPES[2], RECIPES[3], RECIPES[4]):
        publish(store, recipe, Side(), seeds=[0])
    page = build_site(settings, tmp_path / "site")
    assert page.read_text().count("version 1, alias champion") == 2  # a row a protocol
    board = Leaderboard.model_validate_json((tmp_path / "site" / "leaderboard.json").read_text())
    marked = {e.config_hash: e.registered.version for e in board.boards[0].tables[0].entries if e.registered}
    assert marked == {RECIPES[2].config_hash: "1", RECIPES[4].config_hash: "3"}


def test_a_model_of_the_same_config_on_other_data_is_not_marked(settings: Settings, tmp_path: Path):
    client = connect(settings)
    tags = {"config_hash": RECIPES[1].config_hash, "data_hash": "0" * 16}
    client.create_model_version(MODEL, source=str(settings.home / "model"), tags=tags)
    own = replace(settings, results=str(tmp_path / "results"))
    publish(ResultStore.open(own.results), RECIPES[1], Side(), seeds=[0])
    assert registered_models(own)[RECIPES[1].config_hash]["data_hash"] == "0" * 16
    build_site(own, tmp_path)
    board = Leaderboard.model_validate_json((tmp_path / "leaderboard.json").read_text())
    assert [entry.registered for table in board.boards[0].tables for entry in table.entries] == [None, None]


def test_a_registry_that_cannot_be_read_costs_the_badges_not_the_board(settings: Settings, tmp_path: Path):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"not a database" * 100)
    said: list[str] = []
    assert registered_models(replace(settings, mlflow=f"sqlite:///{broken}"), said.append) == {}
    assert "registry cannot be read" in said[0]


def test_where_nothing_was_registered_no_database_is_made(tmp_path: Path):
    assert registered_models(Settings.load(tmp_path, environ={})) == {}
    assert list(tmp_path.iterdir()) == []
