"""The way to MLflow: a client of its server or database, the experiment, and which errors mean that it is lost."""

from __future__ import annotations

import logging
import os

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests.exceptions import RequestException

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.moved_home import artifacts, follow_home
from orchestrator.places import mlflow_refusal
from workers import provenance

LOST = (MlflowException, RequestException, OSError)


def connect(settings: Settings) -> MlflowClient:
    """A client of the tracking server or of the local database, which is created by its first use.

    Where the home was moved, what its database says of places is made to follow first.

    Raises:
        UserError: the server refuses this user. One that does not answer may come back, and is no error here.
    """
    refused = mlflow_refusal(settings.mlflow)
    if refused is not None:
        raise UserError(refused.found, where="MLflow", hint=refused.mend)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the outbox tries again
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout holds tables and JSON alone
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # tells of every new database
    settings.home.mkdir(parents=True, exist_ok=True)
    follow_home(settings)
    return MlflowClient(tracking_uri=settings.mlflow, registry_uri=settings.mlflow)


def experiment_id(client: MlflowClient, name: str, settings: Settings) -> str:
    """The experiment of that name, made if need be; somebody else making it at the same time is as good."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    place = artifacts(settings) if settings.mlflow.startswith("sqlite") else None  # a server knows its own place
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI then shows what belongs to training
    try:
        return client.create_experiment(name, artifact_location=place, tags=kind)
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def source_tags() -> dict[str, str]:
    """MLflow's own tags of where a run comes from, which its UI shows."""
    return {
        "mlflow.source.type": "JOB",
        "mlflow.source.name": provenance.command_line(),
        "mlflow.source.git.commit": provenance.git_commit(),
    }


def is_lost(error: Exception) -> bool:
    """Whether an error means that the server cannot be reached now, and not that it was asked something wrong."""
    if isinstance(error, MlflowException):
        return error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
    return isinstance(error, RequestException | OSError)
