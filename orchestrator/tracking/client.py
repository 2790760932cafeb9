"""The way to MLflow: a client of its server or database, the experiment, and which errors mean that it is lost."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from requests.exceptions import ChunkedEncodingError, HTTPError, RequestException, Timeout
from requests.exceptions import ConnectionError as RequestsConnectionError
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from feature_store.errors import UserError
from feature_store.redaction import mask
from feature_store.settings import Settings, database_file
from orchestrator.diagnosis.services import mlflow_refusal, mlflow_tracking
from orchestrator.tracking.moved_home import artifacts, follow_home
from workers import provenance

Item = TypeVar("Item")

LOST = (MlflowException, RequestException, OSError)
OUTAGES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ESTALE}
KIND = "mlflow.experimentKind"  # the UI then shows what belongs to training
NO_USER = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
NO_PERMISSION = "let the server's administrator give this user EDIT, or name another in MLFLOW_TRACKING_USERNAME"
MENDS = {
    "PERMISSION_DENIED": NO_PERMISSION,
    "CUSTOMER_UNAUTHORIZED": NO_USER,
    "UNAUTHENTICATED": NO_USER,
    "RESOURCE_DOES_NOT_EXIST": "was it deleted? restore it (mlflow experiments restore, mlflow runs restore), or start "
    "the same command again",
    "INTERNAL_ERROR": "move the database away, bring it to this version (mlflow db upgrade), or set LUNGTUNE_MLFLOW",
}


def connect(settings: Settings, asks: bool = False) -> MlflowClient:
    """A client of the tracking server or of the local database, which is created by its first use.

    Where the home was moved, what its database says of places is made to follow first.

    Args:
        asks: for a command that asks at once. Else a server that does not answer may come back, and a database must be
            writable.

    Raises:
        UserError: the server refuses this user or, where it is asked at once, does not answer; the database is of
            another version of MLflow, damaged, or cannot be written.
    """
    refused = mlflow_refusal(settings.mlflow, asks)
    if refused is not None:
        raise UserError(mask(refused.found), where="MLflow", hint=mask(refused.mend))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the outbox tries again
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout holds tables and JSON alone
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # tells of every new database
    settings.home.mkdir(parents=True, exist_ok=True)
    follow_home(settings)
    return MlflowClient(tracking_uri=settings.mlflow, registry_uri=settings.mlflow)


def pages(page: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """All that a search of MLflow finds; one answer of MLflow holds only so many.

    Args:
        page: asks for the page of a token, and for the first by None: ``lambda token: client.search_runs(...,
            page_token=token)``.
    """
    token: str | None = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return


def experiment_id(client: MlflowClient, name: str, settings: Settings) -> str:
    """The experiment of that name, made if need be; somebody else making it at the same time is as good.

    Raises:
        UserError: it was deleted. MLflow keeps its name taken and takes no run for it.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifacts(settings) if settings.mlflow.startswith("sqlite") else None  # a server knows its own place
        try:
            return client.create_experiment(name, artifact_location=place, tags={KIND: "custom_model_development"})
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        number, uri = found.experiment_id, shlex.quote(mask(settings.mlflow))
        raise UserError(
            f"the experiment '{name}' was deleted, and MLflow takes no runs for it",
            where="MLflow",
            hint=f"bring it back: MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {number}, or "
            f"remove it for good: mlflow gc --backend-store-uri {uri} --experiment-ids {number} (on the server's side)",
        )
    return found.experiment_id


def check_tracking(settings: Settings, experiment: str) -> None:
    """Ask MLflow whether it would take a sweep's runs, before anything trains. One that is lost may come back.

    Raises:
        UserError: it is there and refuses: the experiment was deleted, this user may not write, or the database is
            of another version.
    """
    server = settings.mlflow.startswith(("http://", "https://"))
    if server and mlflow_refusal(settings.mlflow) is None and mlflow_tracking(settings).state != "ok":
        return
    try:
        client = connect(settings)
        number = experiment_id(client, experiment, settings)
        if server:  # a user who may read it may not write to it: what is there is written once more
            tags = client.get_experiment(number).tags
            client.set_experiment_tag(number, KIND, tags.get(KIND, "custom_model_development"))
    except MlflowException as error:
        of_file = database_file(settings.mlflow) is not None and error.error_code == "INTERNAL_ERROR"
        if of_file or not is_lost(error):
            raise refusal(error, experiment) from error
    except SQLAlchemyError as error:
        if not is_lost(error):
            raise refusal(error, experiment) from error


def refusal(error: Exception, where: str) -> UserError:
    """What MLflow refuses, and what to do about it.

    Args:
        error: any that `is_lost` says is no outage.
        where: the experiment, run or registered model.
    """
    if isinstance(error, UserError):
        return error
    first = mask((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
    hint = MENDS.get(getattr(error, "error_code", ""), "fix that, then start the same command again")
    return UserError(f"MLflow refuses: {first}", where=where, hint=hint)


def source_tags() -> dict[str, str]:
    """MLflow's own tags of where a run comes from, which its UI shows."""
    return {
        "mlflow.source.type": "JOB",
        "mlflow.source.name": provenance.command_line(),
        "mlflow.source.git.commit": provenance.git_commit(),
    }


def is_lost(error: Exception) -> bool:
    """Whether an error means that MLflow or its artifacts cannot be reached now, and not that they refuse."""
    if isinstance(error, MlflowException):
        return error.error_code in OUTAGES
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    if isinstance(error, RequestException):
        return isinstance(error, RequestsConnectionError | Timeout | ChunkedEncodingError)
    if isinstance(error, OSError):  # a full or write-protected disk is there
        return isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or error.errno in UNREACHABLE
    return isinstance(error, OperationalError)
