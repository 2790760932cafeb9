"""MLflow's database as a file of this machine: what keeps the installed MLflow from using it, found without MLflow."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

PATIENCE = 5.0  # seconds that another program may hold the database


class Refusal(NamedTuple):
    """Why a database cannot be used, and what to do."""

    what: str
    hint: str


def refusal(path: Path, writes: bool = True) -> Refusal | None:
    """What is wrong with a database file, or with the folder in which it is to be made; None where nothing is.

    Args:
        writes: whether it is to be written, too.
    """
    elsewhere = "fix its permissions, or set LUNGTUNE_HOME or LUNGTUNE_MLFLOW to a place that can be written"
    if not path.exists():
        folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return None
        return Refusal(f"{path} cannot be made: {folder} cannot be written", elsewhere)
    if not path.is_file():
        return Refusal(f"{path} is no file", "set LUNGTUNE_MLFLOW to FILE.db or a server's URL")
    if not os.access(path, os.R_OK):
        return Refusal(f"{path} cannot be read", elsewhere)
    try:
        revision = _revision(path)
    except sqlite3.Error as error:
        hint = "bring back a copy of it, or move it away (results are kept in the result store), or set LUNGTUNE_MLFLOW"
        if "locked" in str(error):
            hint = "another program holds it: wait for it, then start the same command again"
        if "readonly" in str(error):
            return Refusal(f"{path} was left in the middle of a write, and cannot be repaired", elsewhere)
        return Refusal(f"{path} is no sound database of MLflow's: {error}", hint)
    if revision is None or revision == (known := _known())[0]:
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        return None if writable or (revision and not writes) else Refusal(f"{path} cannot be written", elsewhere)
    if revision in known:
        hint = f"make a copy of it, then: mlflow db upgrade sqlite:///{path.absolute()}"
        return Refusal(f"{path} is of an older MLflow (schema {revision})", hint)
    hint = "install the MLflow that made it, or move it away (results are kept in the result store)"
    return Refusal(f"{path} is of a newer MLflow or another program (schema {revision})", hint)


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads. What a killed writer left unfinished is rolled back first, as any reader does.

    SQLite keeps the pages that a transaction overwrites in a journal beside the database. A connection of `mode=ro`
    cannot use it and fails with "attempt to write a readonly database".

    Raises:
        sqlite3.Error: it is no database, or the folder of an unfinished write cannot be written.
    """
    try:
        return _reading(path, "ro")
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
    return _reading(path, "rw")


def _reading(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA schema_version")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _revision(path: Path) -> str | None:
    """The schema's revision; None for a file in which nothing is yet.

    Raises:
        sqlite3.Error: it is no database, or one of another program.
    """
    connection = open_to_read(path)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise sqlite3.DatabaseError("its tables are another program's")
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(f"damaged: {damage.splitlines()[0]}")
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    finally:
        connection.close()


def _known() -> list[str]:
    """Revisions that the installed MLflow knows, the newest first."""
    from importlib.util import find_spec

    from alembic.script import ScriptDirectory

    found = find_spec("mlflow")
    assert found is not None and found.origin is not None
    scripts = ScriptDirectory(str(Path(found.origin).parent / "store" / "db_migrations"))
    return [script.revision for script in scripts.walk_revisions()]
