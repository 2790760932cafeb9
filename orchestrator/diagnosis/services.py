"""The folders, stores and servers that an installation uses: whether they are there, and whether they answer."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Literal, NamedTuple

from feature_store.counted import counted
from feature_store.errors import UserError
from feature_store.settings import Settings, database_file
from orchestrator.diagnosis import mlflow_file

State = Literal["ok", "warn", "fail"]
PATIENCE = 5.0  # seconds that a server on the network may take to answer
JOINING = 45.0  # seconds that joining a Ray cluster may take
NO_CLUSTER = "", "local"  # values of RAY_ADDRESS with which a sweep starts its own
NO_TOKEN = "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH on nodes and clients, before Ray is imported"
UNENCODED = "its user or password has a character that ends it"
ENCODE = "write @ as %40, / as %2F, : as %3A, or put the password into a file (PGPASSFILE) or variable"
JOIN = """
import json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(json.dumps(ray.cluster_resources()))
"""


class Finding(NamedTuple):
    """What was found at one place, and what to do about it where something is to be done."""

    state: State
    found: str
    mend: str = ""


def writable(folder: Path, variable: str) -> Finding:
    """Whether files can be written below a folder; it is made if it is not there."""
    probe = folder / f".doctor-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return Finding("fail", f"{folder} cannot be written: {error.strerror}", f"set {variable} to another folder")
    return Finding("ok", str(folder))


def temporary() -> Finding:
    """Temporary folders: writable, and short enough for Ray's sockets."""
    from orchestrator.execution.surroundings import ray_folder, temporary_folders

    folders = list(temporary_folders())
    for folder in folders:
        if not Path(folder).is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            return Finding("fail", f"{folder} cannot be written", "set TMPDIR and RAY_TMPDIR to another folder")
    try:
        short = ray_folder()
    except UserError as error:
        return Finding("fail", f"{error.where} {error.what}", error.hint or "")
    found = ", ".join(folders)
    return Finding("ok", f"{found}; too long for Ray's sockets, which go to {short}" if short else found)


def feature_store(settings: Settings) -> Finding:
    """The feature store, and the features in it. That there is none yet is no failure; one that cannot be read is."""
    from feature_store.storage import open_storage
    from feature_store.store import MARK, FeatureStore

    try:
        if not open_storage(settings.store).exists(MARK):
            hint = "build it: lungtune features build --root DIR"
            return Finding("warn", f"no feature store at {settings.store} yet", hint)
        store = FeatureStore.open(settings.store)
        features = [f"{name}/{manifest.feature_id}" for name in store.datasets() for manifest in store.manifests(name)]
    except UserError as error:
        return Finding("fail", f"{error.where or settings.store}: {error.what}", error.hint or "")
    return Finding("ok", f"{settings.store}: {', '.join(features) or 'no feature yet'}")


def result_store(settings: Settings) -> Finding:
    """The result store, and how many results are in it."""
    from workers.results import ResultStore

    try:
        count = len(ResultStore.open(settings.results).hashes())
    except UserError as error:
        return Finding("fail", f"{error.where or settings.results}: {error.what}", error.hint or "")
    return Finding("ok", f"{settings.results}: {counted(count, 'result')}")


def optuna_storage(settings: Settings) -> Finding:
    """Optuna's journal or database. Nothing is made there."""
    location = settings.optuna
    if "://" in location:
        return _database(location, "studies", "study", "LUNGTUNE_OPTUNA")
    if not Path(location).exists():
        return Finding("ok", f"{location} (made by the first sweep)")
    from orchestrator.studies.journal import refuse_other_file, torn_lines
    from orchestrator.studies.storage import open_storage

    try:
        refuse_other_file(Path(location))
        if torn_lines(Path(location)):
            return Finding("warn", f"{location} has a torn line (a kill, a full disk)", "the next sweep repairs it")
        studies = open_storage(location).get_all_studies()
    except UserError as error:
        return Finding("fail", f"{location} {error.what}", error.hint or "")
    except (ValueError, KeyError, TypeError, OSError) as error:  # what Optuna raises for lines of another make
        hint = "move it away (finished fold runs are kept in the result store), or set LUNGTUNE_OPTUNA"
        return Finding("fail", f"{location} is no journal of Optuna's: {error}", hint)
    return Finding("ok", f"{location}: {counted(len(studies), 'study', 'studies')}")


def mlflow_tracking(settings: Settings) -> Finding:
    """MLflow: a server that answers, or a database that opens."""
    uri = settings.mlflow
    if uri.startswith(("http://", "https://")):
        return _mlflow_server(uri)[0]
    if (folder := _mlflow_folder(uri)) is not None:
        return folder
    if (path := database_file(uri)) is not None:
        return _mlflow_file(path)
    if uri == "databricks" or uri.startswith("databricks://"):
        return Finding("ok", f"{uri} (not tried)")
    return _database(uri, "runs", "run", "LUNGTUNE_MLFLOW")


def mlflow_refusal(uri: str, asks: bool = False) -> Finding | None:
    """Why MLflow cannot be used, where waiting does not help: a refusal, a database that does not open, a folder.

    Args:
        asks: for a command that asks at once: a silent server is a refusal, and a database may be read-only.
    """
    if (folder := _mlflow_folder(uri)) is not None:
        return folder
    if uri.startswith(("http://", "https://")):
        found, status = _mlflow_server(uri)
        return found if status in (401, 403) or (asks and found.state == "fail") else None
    if (path := database_file(uri)) is not None:
        refused = mlflow_file.refusal(path, writes=not asks)
        return Finding("fail", refused.what, refused.hint) if refused else None
    return None


def ray_cluster() -> Finding:
    """The cluster that RAY_ADDRESS names, joined by a process of its own: a dead one makes Ray wait for minutes."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in NO_CLUSTER:
        return Finding("ok", "none named: a sweep starts its own on this machine (RAY_ADDRESS names a cluster)")
    authenticated = os.environ.get("RAY_AUTH_MODE") == "token"
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if authenticated and not os.environ.get("RAY_AUTH_TOKEN") and not token.is_file():
        hint = "copy the head's token there (`infra/start-ray.sh head` makes one), or set RAY_AUTH_TOKEN_PATH"
        return Finding("fail", f"{address}: RAY_AUTH_MODE=token, and no token at {token}", hint)
    if address.startswith(("http://", "https://")):
        hint = "that is the address for jobs: set RAY_API_SERVER_ADDRESS to it, and RAY_ADDRESS to HOST:6379 or auto"
        return Finding("fail", f"{address}: RAY_ADDRESS must name the cluster itself", hint)
    if not _listens(address):
        return Finding(
            "fail", f"{address}: nobody listens there", "start it (infra/start-ray.sh head), or unset RAY_ADDRESS"
        )
    hint = "" if authenticated else f" The cluster may want a token: {NO_TOKEN}"
    hint = f"has this machine the head's token and Ray version, and is it a node of the cluster?{hint}"
    try:
        command = [sys.executable, "-c", JOIN, address]
        joined = subprocess.run(command, capture_output=True, text=True, timeout=JOINING, check=False)
    except subprocess.TimeoutExpired:
        return Finding("fail", f"{address}: no answer within {JOINING:.0f} s", hint)
    if joined.returncode:
        lines = [line for line in joined.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        said = lines[-1] if lines else joined.stderr.strip().rpartition("\n")[2]
        return Finding("fail", f"{address}: {said or f'exit code {joined.returncode}'}", hint)
    resources = json.loads(joined.stdout.splitlines()[-1])
    found = f"{address}: {counted(resources.get('CPU', 0), 'CPU')}, {counted(resources.get('GPU', 0), 'GPU')}"
    if not authenticated:
        return Finding("warn", f"{found}, without token authentication", NO_TOKEN)
    return Finding("ok", found)


def _listens(address: str) -> bool:
    """Whether somebody answers at HOST:PORT. Other addresses, as `auto`, only Ray can try."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def _unencoded(uri: str) -> bool:
    """Whether a URI has characters in its user or password that end them early. Errors would then show the rest."""
    return "@" in uri and not uri.startswith("sqlite") and re.fullmatch(r"[\w+.-]+://[^/?#@]*@[^@]*", uri) is None


def _mlflow_server(uri: str) -> tuple[Finding, int]:
    """Asks for experiments: `/health` is answered to every name and user. With the HTTP status, 0 if there is none."""
    if _unencoded(uri):
        return Finding("fail", f"{uri}: {UNENCODED}", ENCODE), 0
    address, credentials = _without_user(uri.rstrip("/"))
    up = "start it (infra/start-mlflow.sh), or set LUNGTUNE_MLFLOW"
    mends = {
        401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        403: f"start it with MLFLOW_SERVER_ALLOWED_HOSTS={urllib.parse.urlsplit(address).netloc}",
        404: "is it the address of an MLflow server?",
    }
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/search?max_results=1")
    if credentials:
        request.add_header("Authorization", credentials)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        refused = Finding("fail", f"{address} refuses: {error.code} {error.reason}", mends.get(error.code, up))
        return refused, error.code
    except (OSError, http.client.HTTPException) as error:
        return Finding("fail", f"{address} does not answer: {getattr(error, 'reason', error)}", up), 0
    except ValueError:
        return Finding("fail", f"{address} answers, but not as MLflow does", mends[404]), 200
    return Finding("ok", f"{address} answers"), 200


def _without_user(uri: str) -> tuple[str, str]:
    """The address alone, and the header that authenticates, from the URI or as MLflow reads it from the environment."""
    parts = urllib.parse.urlsplit(uri)
    user, separator, host = parts.netloc.rpartition("@")
    user = urllib.parse.unquote(user)
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if not separator and name and password:
        user = f"{name}:{password}"
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    header = f"Basic {base64.b64encode(user.encode()).decode()}" if user else f"Bearer {token}" if token else ""
    return parts._replace(netloc=host).geturl(), header


def _mlflow_folder(uri: str) -> Finding | None:
    """That a tracking URI names a folder, as MLflow 2 kept its runs in. Else none."""
    path = database_file(uri)
    if not uri.startswith("file:") and (path is None or not path.is_dir()):
        return None
    where = uri if path is None else str(path)
    mend = "set LUNGTUNE_MLFLOW (or MLFLOW_TRACKING_URI) to FILE.db or a URL; `mlflow migrate-filestore` takes old runs"
    return Finding("fail", f"{where}: MLflow 3 keeps no runs in a folder", mend)


def _mlflow_file(path: Path) -> Finding:
    refused = mlflow_file.refusal(path)
    if refused is not None:
        return Finding("fail", refused.what, refused.hint)
    if not path.exists():
        return Finding("ok", f"{path} (made by the first sweep)")
    try:
        connection = mlflow_file.open_to_read(path)
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        connection.close()
    except sqlite3.Error as error:
        return Finding("fail", f"{path} is no database of MLflow's: {error}", "move it away, or set LUNGTUNE_MLFLOW")
    return Finding("ok", f"{path}: {counted(runs, 'run')}")


def _database(uri: str, table: str, row: str, variable: str) -> Finding:
    """A database by its SQLAlchemy URL, and how many rows of a table it has; `row` is what one is called."""
    import sqlalchemy

    if _unencoded(uri):
        return Finding("fail", f"{uri}: {UNENCODED}", ENCODE)
    limit = {"connect_timeout": int(PATIENCE)} if uri.startswith(("postgresql", "mysql")) else {}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=limit, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table(table):
                return Finding("ok", f"{uri}: no {table} yet (made by the first sweep)")
            count = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(table)))
            return Finding("ok", f"{uri}: {counted(count.scalar_one(), row, table)}")
    except ModuleNotFoundError as error:
        return Finding("fail", f"{uri}: its driver is missing: {error.name}", "pip install lungtune[postgres]")
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        hint = f"is the server up, and does {variable} name it rightly? A password belongs into PGPASSFILE"
        return Finding("fail", f"{uri}: {said}", hint)
