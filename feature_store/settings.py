"""Where things are: environment first, then `lungtune.toml`, then one folder with everything in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from feature_store.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "lungtune.toml"


@dataclass(frozen=True)
class Settings:
    """Locations of one installation. Every value is an absolute path or a URI, so that any node can use it.

    Attributes:
        home: folder of everything that is not set elsewhere.
        store: feature store, a folder or ``s3://bucket/prefix``.
        results: result store, a folder or ``s3://bucket/prefix``.
        mlflow: MLflow tracking URI.
        optuna: Optuna storage: a journal file, or an SQLAlchemy URL.
        weights: folder in which bare names of pretrained files are looked up.
        cache: node-local folder for mapped features and checkpoints of running folds.
    """

    home: Path
    store: str
    results: str
    mlflow: str
    optuna: str
    weights: Path
    cache: Path

    @classmethod
    def load(cls, home: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read LUNGTUNE_* from the environment, then `lungtune.toml` of the working directory, then defaults.

        Raises:
            UserError: `lungtune.toml` cannot be read or has an unknown key.
        """
        environ = os.environ if environ is None else environ
        named = environ.get("LUNGTUNE_CONFIG")
        if named and not Path(named).exists():
            raise UserError("no such file", where=f"LUNGTUNE_CONFIG={named}", hint="correct the variable, or unset it")
        file = _read_file(Path(named or CONFIG_FILE))

        def value(key: str, default: str) -> str:
            return environ.get(f"LUNGTUNE_{key.upper()}") or file.get(key) or default

        root = Path(home or value("home", "lungtune-home")).expanduser().resolve()
        return cls(
            home=root,
            store=_absolute(value("store", str(root / "store"))),
            results=_absolute(value("results", str(root / "results"))),
            mlflow=_tracking_uri(value("mlflow", environ.get("MLFLOW_TRACKING_URI") or str(root / "mlflow.db"))),
            optuna=_absolute(value("optuna", str(root / "optuna.journal"))),
            weights=Path(value("weights", str(root / "weights"))).expanduser().resolve(),
            cache=Path(value("cache", str(root / "cache"))).expanduser().resolve(),
        )


KEYS = frozenset(Settings.__dataclass_fields__)


def _read_file(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(
            path.read_text(encoding="utf-8-sig")
        )  # editors on Windows begin it with a byte-order mark
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"is not valid TOML: {error}", where=str(path)) from error
    for key, item in content.items():
        if key not in KEYS:
            raise UserError(f"unknown key '{key}'", where=str(path), hint=nearest(key, KEYS))
        if not isinstance(item, str):
            raise UserError(f"'{key}' must be a string, not {type(item).__name__}", where=str(path))
    return content


def _absolute(location: str) -> str:
    """A path made absolute; a URI as it is (``file:`` becomes a plain path)."""
    if location.startswith("file:"):
        location = unquote(urlsplit(location, allow_fragments=False).path)
    return location if "://" in location else str(Path(location).expanduser().resolve())


def _tracking_uri(location: str) -> str:
    """MLflow wants a URI: a plain path means a sqlite database there. Folders (``file:``) are left for it to refuse."""
    if "://" in location or location == "databricks" or location.startswith("file:"):
        return location
    return database_uri(Path(location).expanduser().resolve())


def database_uri(path: Path) -> str:
    """The SQLAlchemy URL of a sqlite database in a file, percent-encoded where the path needs it.

    An encoded URL names its driver: MLflow makes the parent folder of a plain ``sqlite:///`` path without decoding it.
    """
    encoded = quote(str(path))
    return f"sqlite:///{encoded}" if encoded == str(path) else f"sqlite+pysqlite:///{encoded}"


def database_file(uri: str) -> Path | None:
    """The file of a sqlite database's URL; None for a server's and for a database in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    return Path(path) if scheme in ("sqlite", "sqlite+pysqlite") and path not in ("", ":memory:") else None
