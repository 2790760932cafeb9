"""A home that is moved or copied works where it is, and leaves where it was alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from mlflow.tracking._tracking_service import utils

from feature_store.settings import Settings
from orchestrator.tracking.client import connect, experiment_id
from orchestrator.tracking.moved_home import PLACES, follow_home
from tests.conftest import Run
from tests.support.tiny_sweep import tiny_store, tiny_sweep


def addresses(home: Path) -> set[str]:
    with sqlite3.connect(home / "mlflow.db") as connection:
        return {
            place
            for table, columns in PLACES.items()
            for column in columns
            for (place,) in connection.execute(f"SELECT {column} FROM {table}")
            if place and "mlflow-artifacts" in place
        }


@pytest.mark.slow
def test_everything_works_in_a_moved_home_of_any_name(
    run: Run, tmp_path: Path, synthetic_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep in a home with every awkward character; then the home is moved, and the old path never made again."""
    old, new = tmp_path / "a?b #1 100%25 größe", tmp_path / "elsewhere" / "ö?#%41 x"
    space, sound = tmp_path / "tiny.yaml", str(next(iter(sorted(synthetic_corpus.rglob("*.wav")))))
    space.write_text(yaml.safe_dump(tiny_sweep(search={"trials": 1}, resources={"cpus": 1})))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    def lungtune(home: Path, *arguments: object) -> str:
        for key in ("HOME", "STORE", "RESULTS", "MLFLOW", "OPTUNA", "CACHE", "WEIGHTS"):
            monkeypatch.delenv(f"LUNGTUNE_{key}", raising=False)
        monkeypatch.setenv("LUNGTUNE_HOME", str(home))
        code, printed, told = run(*arguments)
        assert code == 0, told
        return printed

    tiny_store(synthetic_corpus, Settings.load(old, environ={}))
    lungtune(old, "sweep", space, "--json")
    assert {path.name for path in tmp_path.iterdir()} == {old.name, space.name}
    before = json.loads(lungtune(old, "predict", "champion", sound, "--json"))

    new.parent.mkdir()
    old.rename(new)
    utils._artifact_repos_cache.clear()  # MLflow keeps addresses by run: those who move a home start a new process
    after = json.loads(lungtune(new, "predict", "champion", sound, "--json"))
    assert after == before
    outcome = json.loads(lungtune(new, "sweep", space, "--json"))
    assert outcome["fold_runs"]["trained"] == 0 and outcome["finalists"][0]["registered"]["version"] == "1"
    lungtune(new, "sweep", space, "--json", "--trials", "2", "--set", "promotion.seeds=[2, 3]")  # writes artifacts
    assert len(json.loads(lungtune(new, "registry", "list", "--json"))) >= 1
    lungtune(new, "leaderboard", "build", "--out", tmp_path / "board")
    assert not old.exists(), sorted(old.rglob("*"))
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "board", space.name}
    assert all(place.startswith((new / "mlflow-artifacts").as_uri()) for place in addresses(new))


@pytest.fixture
def made(empty_database: Path, tmp_path: Path) -> Settings:
    """A home with a run that has an artifact and one that has none."""
    (tmp_path / "one").mkdir()
    shutil.copy(empty_database, tmp_path / "one" / "mlflow.db")
    settings = Settings.load(tmp_path / "one", environ={})
    client = connect(settings)
    experiment = experiment_id(client, "icbhi-lungsound4", settings)
    client.log_dict(client.create_run(experiment).info.run_id, {}, "config.json")
    client.create_run(experiment)
    return settings


def test_a_copy_writes_into_itself(made: Settings, tmp_path: Path) -> None:
    shutil.copytree(made.home, tmp_path / "two")
    copy = Settings.load(tmp_path / "two", environ={})
    assert follow_home(copy) == 3  # the experiment's and the runs'
    assert all(place.startswith((copy.home / "mlflow-artifacts").as_uri()) for place in addresses(copy.home))
    assert all(place.startswith((made.home / "mlflow-artifacts").as_uri()) for place in addresses(made.home))
    assert follow_home(copy) == follow_home(made) == 0


def test_another_home_s_runs_in_this_database_are_left_alone(made: Settings, tmp_path: Path) -> None:
    guest = replace(Settings.load(tmp_path / "guest", environ={}), mlflow=made.mlflow)
    client = connect(guest)
    run = client.create_run(experiment_id(client, "sprsound-event", guest))
    client.log_dict(run.info.run_id, {}, "config.json")
    before = addresses(made.home)
    assert follow_home(made) == follow_home(guest) == 0
    assert addresses(made.home) == before


def test_a_home_that_cannot_be_written_and_no_database_are_no_errors(made: Settings, tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "mlflow.db").write_text("no database")
    assert follow_home(Settings.load(tmp_path / "three", environ={})) == 0
