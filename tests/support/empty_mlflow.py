"""MLflow's empty database, laid out once for all tests: MLflow takes seconds for it, a copy milliseconds."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.store.db import utils
from mlflow.store.model_registry import sqlalchemy_store

LAY_OUT: Callable[[Any], None] = utils._initialize_tables


@pytest.fixture(scope="session", name="empty_database")
def empty_database_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database, to be copied where another process will open it."""
    return _empty_database(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True, name="quick_databases")
def quick_databases_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every new SQLite database of this process is a copy; any other is laid out by MLflow."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _copy_instead(tmp_path_factory, monkeypatch)
        yield


def _empty_database(factory: pytest.TempPathFactory) -> Path:
    """The first process that asks makes it for all."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    folder = (factory.getbasetemp().parent if shared else factory.getbasetemp()) / "empty-mlflow"
    folder.mkdir(exist_ok=True)
    made, unfinished = folder / "mlflow.db", folder / "unfinished.db"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            LAY_OUT(sqlalchemy.create_engine(f"sqlite:///{unfinished}"))
            unfinished.rename(made)
    return made


def _copy_instead(factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    def initialize(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or not utils._is_empty_database(engine):
            LAY_OUT(engine)
            return
        with closing(sqlite3.connect(_empty_database(factory))) as source, engine.connect() as connection:
            source.backup(connection.connection.driver_connection)

    monkeypatch.setattr(utils, "_initialize_tables", initialize)
    monkeypatch.setattr(sqlalchemy_store, "_initialize_tables", initialize)
