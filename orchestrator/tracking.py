"""MLflow as a projection of the result store: one run a sweep, one a trial, one a finalist, written by the driver.

A run is found again by its fingerprint, so that a resumed sweep continues it and makes no second one. A lost MLflow
server never stops a sweep: what it missed is written when the trial ends, or by the next start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState
from requests.exceptions import RequestException

from feature_store.settings import Settings
from orchestrator.events import Progress, Watch
from orchestrator.figures import confusion_figure
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.results import FoldResult, ResultStore

FINGERPRINT = "lungtune.fingerprint"
LOST = (MlflowException, RequestException, OSError)
BATCH = 900  # MLflow takes 1,000 metrics at once


def connect(settings: Settings) -> MlflowClient:
    """A client of the tracking server or of the local database, which is created by its first use."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    settings.home.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.mlflow, registry_uri=settings.mlflow)


def experiment_id(client: MlflowClient, name: str, settings: Settings) -> str:
    """The experiment of that name, made if need be; somebody else making it at the same time is as good."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    local = settings.mlflow.startswith("sqlite")
    place = (settings.home / "mlflow-artifacts").as_uri() if local else None  # a server knows its own place
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


class Tracker:
    """Writes one sweep to MLflow."""

    def __init__(self, settings: Settings, space: SearchSpace, study: str, watch: Watch) -> None:
        self.settings, self.space, self.study, self.watch = settings, space, study, watch
        self.client = connect(settings)
        self.results = ResultStore.open(settings.results)
        self.run_ids: dict[str, str] = {}
        self.logged: dict[str, set[str]] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, settings: Settings, space: SearchSpace, study: str, watch: Watch) -> Iterator[Tracker]:
        """A tracker whose runs are none of them left running at the end, whatever ends it."""
        tracker = cls(settings, space, study, watch)
        try:
            yield tracker
        except BaseException:
            tracker._close("KILLED")
            raise
        tracker._close("FINISHED")

    @functools.cached_property
    def experiment(self) -> str:
        """One experiment a dataset and task."""
        base = self.space.base
        name = f"{base.get('dataset', 'icbhi')}-{base.get('task', 'lungsound4')}"
        return experiment_id(self.client, name, self.settings)

    @property
    def parent(self) -> str:
        """The sweep's own run."""
        return self._run(
            self.study, self.study, {"lungtune.kind": "sweep", "mlflow.note.content": self.space.description}
        )

    # --- trials ---

    def fold_done(self, number: int, config: dict[str, Any], hashes: list[str]) -> None:
        """Write the fold runs of a trial that are not there yet: epoch curves, and the fold's Scores."""
        with self._guard():
            parsed = ExperimentConfig.model_validate(config)
            run_id = self._trial_run(number, parsed)
            for position, result_hash in enumerate(hashes):
                self._log_result(run_id, position, result_hash)

    def trial_ended(self, trial: FrozenTrial) -> None:
        """Close a trial's run with its mean, its state and the confusion matrix over its folds."""
        if not trial.state.is_finished() or "config" not in trial.user_attrs:
            return
        with self._guard():
            run_id = self._trial_run(trial.number, ExperimentConfig.model_validate(trial.user_attrs["config"]))
            if self.client.get_run(run_id).data.tags.get("lungtune.state") == trial.state.name:
                return
            hashes = sorted(self.logged.get(run_id, set()))
            protocol = self.space.evaluation.protocol
            confusions = [self._result(h).protocols[protocol].test.confusion for h in hashes]
            if confusions:
                classes = self._result(hashes[0]).data.classes
                title = f"trial {trial.number}: {len(hashes)} folds together, {protocol} epoch"
                figure = confusion_figure(np.sum(confusions, axis=0), classes, title)
                self.client.log_figure(run_id, figure, "confusion_matrix.png")
            metrics = {} if trial.value is None else {"objective": trial.value}
            tags = {"lungtune.state": trial.state.name, "lungtune.error": trial.user_attrs.get("error")}
            self._log(run_id, metrics, tags={key: value for key, value in tags.items() if value})
            status = {TrialState.FAIL: "FAILED", TrialState.PRUNED: "KILLED"}.get(trial.state, "FINISHED")
            self.client.set_terminated(run_id, status)

    def _trial_run(self, number: int, config: ExperimentConfig) -> str:
        tags = {
            "lungtune.kind": "trial",
            "lungtune.trial": str(number),
            "lungtune.family": config.model.name,
            "lungtune.objective": config.objective.name,
            "lungtune.config_hash": config.config_hash,
            "lungtune.split": self.space.evaluation.split,
            "lungtune.protocol": self.space.evaluation.protocol,
            "mlflow.parentRunId": self.parent,
        }
        return self._run(f"{self.study}:{config.config_hash}", f"trial {number} · {config.model.name}", tags, config)

    # --- finalists ---

    def promoted(
        self, family: str, number: int, search_value: float, config: ExperimentConfig, results: list[FoldResult]
    ) -> str | None:
        """The run of a finalist: every seed's curve and Scores, their means, its picture. None if MLflow is lost."""
        with self._guard():
            split = self.space.promotion.split
            tags = {
                "lungtune.kind": "finalist",
                "lungtune.trial": str(number),
                "lungtune.family": family,
                "lungtune.config_hash": config.config_hash,
                "lungtune.split": split,
                "lungtune.protocol": config.training.protocol,
                "mlflow.parentRunId": self.parent,
            }
            name = f"finalist · {family}"
            run_id = self._run(f"{self.study}:{config.config_hash}:{split}", name, tags, config)
            for position, result in enumerate(results):
                self._log_result(run_id, position, result.hash, label="seed")
            metrics = {"search_objective": search_value}
            for protocol in results[0].protocols:
                rows = [result.protocols[protocol].test.flat() for result in results]
                for key in rows[0]:
                    metrics[f"{protocol}/{key}"] = float(np.mean([row[key] for row in rows if key in row]))
            self._log(run_id, metrics)
            protocol = config.training.protocol
            confusion = np.sum([result.protocols[protocol].test.confusion for result in results], axis=0)
            title = f"{family} on {split}: {len(results)} seeds together, {protocol} epoch"
            self.client.log_figure(
                run_id, confusion_figure(confusion, results[0].data.classes, title), "confusion_matrix.png"
            )
            self.client.set_terminated(run_id)
            return run_id
        return None

    def finish_sweep(self, trials: list[dict[str, Any]]) -> None:
        """The sweep's table and its best value, on the parent run."""
        with self._guard():
            values = [trial["value"] for trial in trials if trial["state"] == "COMPLETE"]
            metrics = {"trials": float(len(trials))} | ({"best_objective": max(values)} if values else {})
            self._log(self.parent, metrics)
            self.client.log_dict(self.parent, {"trials": trials}, "trials.json")
            self.client.log_dict(self.parent, self.space.model_dump(mode="json"), "search_space.json")

    # --- writing ---

    def _run(self, fingerprint: str, name: str, tags: dict[str, str], config: ExperimentConfig | None = None) -> str:
        """The run with that fingerprint, running: found, or made with its parameters."""
        if fingerprint in self.run_ids:
            return self.run_ids[fingerprint]
        found = self.client.search_runs([self.experiment], f"tags.`{FINGERPRINT}` = '{fingerprint}'", max_results=1)
        if found:
            run = found[0]
            if run.info.status != "RUNNING" and "lungtune.state" not in run.data.tags:
                self.client.update_run(run.info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
            self.logged[run.info.run_id] = {
                value for key, value in run.data.tags.items() if key.startswith("lungtune.result.")
            }
        else:
            run = self.client.create_run(self.experiment, run_name=name, tags={**tags, FINGERPRINT: fingerprint})
            self.logged[run.info.run_id] = set()
            if config is not None:
                parameters = [Param(key, str(value)) for key, value in flatten(config.model_dump(mode="json")).items()]
                self.client.log_batch(run.info.run_id, params=parameters[:100])
                self.client.log_dict(run.info.run_id, config.model_dump(mode="json"), "config.json")
        self.run_ids[fingerprint] = run.info.run_id
        return run.info.run_id

    def _log_result(self, run_id: str, position: int, result_hash: str, label: str = "fold") -> None:
        """One fold run's curves and Scores, once."""
        if result_hash in self.logged[run_id]:
            return
        result = self._result(result_hash)
        number = result.key.fold if label == "fold" else result.key.seed
        prefix = f"{label}{number}"
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"{prefix}/{name}", float(value), now, record["epoch"])
            for record in result.epochs
            for name, value in _epoch_metrics(record).items()
        ]
        for protocol, chosen in result.protocols.items():
            metrics += [Metric(f"{prefix}/{protocol}_{k}", v, now, 0) for k, v in chosen.test.flat().items()]
        metrics.append(Metric(f"{prefix}/seconds", result.timing["total_seconds"], now, 0))
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        self.client.log_batch(run_id, tags=[RunTag(f"lungtune.result.{position}", result_hash)])
        self.logged[run_id].add(result_hash)

    def _log(self, run_id: str, metrics: dict[str, float], tags: dict[str, str] | None = None) -> None:
        now = int(time.time() * 1000)
        finite = {key: value for key, value in metrics.items() if np.isfinite(value)}
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in finite.items()],
            tags=[RunTag(key, value[:5000]) for key, value in (tags or {}).items()],
        )

    def _result(self, result_hash: str) -> FoldResult:
        result = self.results.get(result_hash)
        assert result is not None
        return result

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """MLflow's faults are told, never raised."""
        try:
            yield
        except LOST as error:
            self.watch(
                Progress("mlflow_lost", {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})
            )

    def _close(self, status: str) -> None:
        """No run of this sweep is left running."""
        with self._guard():
            for run_id in {*self.run_ids.values()} - {self.parent}:
                if self.client.get_run(run_id).info.status == "RUNNING":
                    self.client.set_terminated(run_id, "KILLED")
            self.client.set_terminated(self.parent, status)


def _epoch_metrics(record: dict[str, Any]) -> dict[str, float]:
    metrics = {"train_loss": record["train_loss"], "lr": record["lr"]}
    metrics |= {f"loss_{name}": value for name, value in record.get("parts", {}).items()}
    for side in ("validation", "test"):
        metrics |= {f"{side}_{name}": value for name, value in record.get(side, {}).items()}
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys.

    >>> flatten({"model": {"name": "ast"}})
    {'model.name': 'ast'}
    """
    flat: dict[str, Any] = {}
    for key, value in content.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat
