"""Addresses of artifacts in MLflow's database, which are absolute, made to follow the home that they are in.

Only the home's own sqlite database is looked at, and in it only what is, or was, in a home's folder of artifacts.
A run's folder bears the run's id, so what is found here under its name belongs to this home wherever it was written.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from feature_store.settings import Settings, database_file

FOLDER = "mlflow-artifacts"
PATIENCE = 30.0  # seconds that another writer may hold the database
PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
}


def artifacts(settings: Settings) -> str:
    """The URI of the folder that takes the artifacts of a home whose runs are in a database of its own."""
    return (settings.home / FOLDER).as_uri()


def address_now(uri: str, settings: Settings) -> str:
    """An artifact's address after its home was moved, copied or mounted elsewhere; others as they are."""
    old, mark, below = uri.rpartition(f"/{FOLDER}")
    here = artifacts(settings)
    if not mark or (below and not below.startswith("/")) or f"{old}{mark}" == here or not _is_own(settings):
        return uri
    known = below and (settings.home / FOLDER / unquote(below).split("/")[1]).exists()
    was = Path(unquote(urlsplit(old + mark).path) if old.startswith("file:") else old + mark)
    # What was moved is here; a folder that nothing was written to yet is nowhere, and shall be made here.
    return f"{here}{below}" if known or not was.exists() else uri


def follow_home(settings: Settings) -> int:
    """Rewrite the addresses of a home that was moved, in one transaction that other writers wait for.

    Returns:
        How many were rewritten: 0 where the home is where it was, and where its database cannot be written.
    """
    file = database_file(settings.mlflow)
    if file is None or not _is_own(settings) or not file.exists():
        return 0
    with contextlib.suppress(sqlite3.DatabaseError), _opened(file, "ro") as connection:
        if not _moved(connection, settings):
            return 0
        with _opened(file, "rw") as writing:
            writing.execute("BEGIN IMMEDIATE")
            found = _moved(writing, settings)  # another driver may have done it by now
            for table, column, old, new in found:
                writing.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
            writing.execute("COMMIT")
            return len(found)
    return 0  # no database of MLflow's, or one that cannot be written: MLflow says so where it matters


def _is_own(settings: Settings) -> bool:
    file = database_file(settings.mlflow)
    return file is not None and file.resolve().parent == settings.home.resolve()


@contextlib.contextmanager
def _opened(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{file.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()  # what was not committed is rolled back


def _moved(connection: sqlite3.Connection, settings: Settings) -> list[tuple[str, str, str, str]]:
    """Table, column, address and where it is now, of all that were moved.

    What nothing was written to yet, a run or an experiment, goes with the others of its folder.
    """
    here, rows = artifacts(settings), list[tuple[str, str, str, str]]()
    for table, columns in PLACES.items():
        for column in columns:
            elsewhere = connection.execute(
                f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE ? AND substr({column} || '/', 1, ?) != ?",
                (f"%/{FOLDER}%", len(here) + 1, f"{here}/"),
            )
            rows += [(table, column, old, address_now(old, settings)) for (old,) in elsewhere.fetchall()]
    left = {_folder(old) for _, _, old, new in rows if new != old}
    return [
        (table, column, old, here + old.removeprefix(_folder(old)))
        for table, column, old, new in rows
        if new != old or (_folder(old) in left and not _written(old))
    ]


def _folder(uri: str) -> str:
    """The folder of artifacts that an address is in."""
    return uri.rpartition(f"/{FOLDER}")[0] + f"/{FOLDER}"


def _written(uri: str) -> bool:
    """Whether something is at a run's or a model's address; an experiment's is its whole folder."""
    return uri != _folder(uri) and Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri).exists()
