"""Where things are: paths with characters that mean something in a URI, and a settings file as editors write it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from feature_store.errors import UserError
from feature_store.settings import Settings, database_file
from orchestrator.tracking.client import connect

NAMES = ["plain", "what?", "#1", "100%25", "two words", "größe-音", "a?b#c%41 é"]


@pytest.mark.parametrize("name", NAMES)
def test_the_database_s_uri_opens_the_file_of_the_home(tmp_path: Path, name: str) -> None:
    settings = Settings.load(tmp_path / name, environ={})
    settings.home.mkdir()
    engine = sqlalchemy.create_engine(settings.mlflow, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table made (x int)"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in settings.home.iterdir()] == ["mlflow.db"]
    assert database_file(settings.mlflow) == tmp_path / name / "mlflow.db"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_uri_of_a_store_is_its_folder(tmp_path: Path, name: str) -> None:
    settings = Settings.load(tmp_path, environ={"LUNGTUNE_STORE": (tmp_path / name).as_uri()})
    assert settings.store == str(tmp_path / name)


@pytest.mark.parametrize("uri", ["postgresql://host/mlflow", "http://host:5000", "sqlite:///:memory:", "sqlite://"])
def test_other_uris_have_no_file(uri: str) -> None:
    assert database_file(Settings.load(environ={"LUNGTUNE_MLFLOW": uri}).mlflow) is None


@pytest.mark.parametrize("uri", ["file:./mlruns", "file:///tmp/mlruns", "./mlruns", "mlruns"])
@pytest.mark.parametrize("variable", ["LUNGTUNE_MLFLOW", "MLFLOW_TRACKING_URI"])
def test_a_folder_of_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, variable: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    settings = Settings.load(tmp_path / "home", environ={variable: uri})
    with pytest.raises(UserError, match=r"keeps no runs in a folder.*FILE\.db"):
        connect(settings)
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]


def test_a_plain_path_is_a_database_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load(environ={"LUNGTUNE_MLFLOW": "runs.db"}).mlflow == f"sqlite:///{tmp_path}/runs.db"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lungtune.toml"
    file.write_bytes(b"\xef\xbb\xbf" + f"store = '{tmp_path}/größe'".encode())
    assert Settings.load(environ={"LUNGTUNE_CONFIG": str(file)}).store == f"{tmp_path}/größe"


def test_a_settings_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Settings.load(environ={"LUNGTUNE_CONFIG": str(tmp_path)})
