"""The site of one installation, with a real MLflow registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.settings import Settings
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site.build import build_site, finalist_runs, registered_models, tracked_runs, write_site
from orchestrator.leaderboard.site.write import PAGE
from orchestrator.tracking.client import connect
from tests.support.leaderboard_results import RECIPES, Side, publish
from workers.results import ResultStore

MODEL = "icbhi-lungsound4"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two registered configs: the first has two versions and is the champion by its older one."""
    settings = Settings.load(tmp_path_factory.mktemp("home"), environ={})
    client = connect(settings)
    client.create_registered_model(MODEL)
    for recipe in (RECIPES[2], RECIPES[2], RECIPES[4]):
        tags = {"config_hash": recipe.config_hash, "score": "55.25", "registered": "2026-03-02T12:00:00+00:00"}
        client.create_model_version(MODEL, source=str(settings.home / "model"), tags=tags)
    client.set_registered_model_alias(MODEL, "champion", "1")
    return settings


@pytest.mark.slow
def test_the_registrys_models_are_found_by_config(settings: Settings):
    assert registered_models(settings) == {
        RECIPES[2].config_hash: {"name": MODEL, "version": "1", "alias": "champion"},
        RECIPES[4].config_hash: {"name": MODEL, "version": "3", "alias": None},
    }


@pytest.mark.slow
def test_the_site_marks_them(settings: Settings, tmp_path: Path):
    store = ResultStore.open(settings.results)
    for recipe in (RECIPES[2], RECIPES[3], RECIPES[4]):
        publish(store, recipe, Side(), seeds=[0])
    page = build_site(settings, tmp_path / "site")
    marked_pages = [
        page for page in (tmp_path / "site" / "entries").glob("*.html") if "alias champion" in page.read_text()
    ]
    assert len(marked_pages) == 2  # one a protocol
    assert page.read_text().count('<span class="tag gold">champion</span>') == 2
    board = Leaderboard.model_validate_json((tmp_path / "site" / "leaderboard.json").read_text())
    marked = {e.config_hash: e.registered.version for e in board.boards[0].tables[0].entries if e.registered}
    assert marked == {RECIPES[2].config_hash: "1", RECIPES[4].config_hash: "3"}


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_champions_that_the_registry_remembers_are_shown_with_their_entry(settings: Settings, tmp_path: Path):
    own = replace(settings, results=str(tmp_path / "results"))
    publish(ResultStore.open(own.results), RECIPES[2], Side(), seeds=[0])
    board, places = write_site(own, tmp_path / "site")
    (change,) = board.champions
    assert (change.model, change.version, change.score) == (MODEL, "1", 55.25)
    page = Path(places[PAGE]).read_text()
    section = page[page.index('id="champions"') :]
    assert "version 1" in section and "55.2" in section
    assert change.entry in {entry.id for table in board.boards[0].tables for entry in table.entries}
    assert f'href="entries/{change.entry}.html"' in section


@pytest.mark.slow
def test_a_champion_of_another_hand_costs_its_history_not_the_board(settings: Settings, tmp_path: Path):
    own = replace(settings, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}", results=str(tmp_path / "results"))
    client = connect(own)
    client.create_registered_model("other")
    client.create_model_version("other", source=str(tmp_path / "model"))
    client.set_registered_model_alias("other", "champion", "1")
    said: list[str] = []
    board, _ = write_site(own, tmp_path / "site", warn=said.append)
    assert board.champions == []
    assert "model 'other'" in said[0]


def test_an_entry_leads_to_its_newest_run_on_the_server_without_its_password(settings: Settings, tmp_path: Path):
    client = connect(replace(settings, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}"))
    experiment = client.create_experiment("icbhi-lungsound4")
    runs = {}
    for when, (kind, config) in enumerate([("finalist", "a"), ("trial", "a"), ("finalist", "b"), ("finalist", "a")]):
        tags = {"lungtune.kind": kind, "lungtune.config_hash": config}
        runs[when] = client.create_run(experiment, start_time=when + 1, tags=tags).info.run_id
    found = finalist_runs(client, "https://me:secret@mlflow.example:5000/base/")
    base = f"https://mlflow.example:5000/base/#/experiments/{experiment}/runs/"
    assert found == {"a": base + runs[3], "b": base + runs[2]}


def test_where_the_tracking_is_a_file_or_lost_no_entry_leads_there(settings: Settings):
    said: list[str] = []
    assert tracked_runs(settings, said.append) == {} and said == []
    assert tracked_runs(replace(settings, mlflow="http://127.0.0.1:9"), said.append) == {}
    assert "tracking server cannot be read" in said[0]
