"""MLflow as a projection of the result store: one run a sweep, one a trial, one a finalist, written by the driver.

A run is found again by its fingerprint, so that a resumed sweep continues it and makes no second one. A lost MLflow
server never stops a sweep: what it missed is written when it is back, or by the next start.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, RunStatus, RunTag
from optuna.trial import FrozenTrial, TrialState

from feature_store.counted import counted
from feature_store.redaction import mask
from feature_store.settings import Settings
from orchestrator.events import MlflowLost, MlflowRefused, Watch
from orchestrator.studies.study import TrialSummary
from orchestrator.tracking.background_writer import Outbox
from orchestrator.tracking.client import connect, experiment_id, is_lost, pages, refusal, source_tags
from orchestrator.tracking.confusion_image import confusion_figure
from orchestrator.tracking.result_metrics import result_metrics
from search_spaces.overrides import flatten
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.results import FoldResult, ResultStore

FINGERPRINT = "lungtune.fingerprint"
STUDY = "lungtune.study"
PARAMETERS = 100  # that MLflow takes at once
BATCH = 900  # MLflow takes 1,000 metrics at once
PATIENCE = 60.0  # seconds that a sweep waits at its end for a lost server


class _Run:
    """A run as this driver knows it."""

    def __init__(self, run_id: str, results: set[str], state: str | None, status: str) -> None:
        self.run_id, self.results, self.state, self.status = run_id, results, state, status


class Tracker:
    """Writes one sweep to MLflow, beside the sweep: what is slow or lost there holds nothing up here."""

    def __init__(self, settings: Settings, space: SearchSpace, study: str, watch: Watch) -> None:
        self.settings, self.space, self.study, self.watch = settings, space, study, watch
        self.client = connect(settings)
        self.results = ResultStore.open(settings.results)
        self.outbox = Outbox(self._lost, self._tell)
        self.reported: dict[int, list[str]] = {}
        self.refused: str | None = None  # what MLflow last refused

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
        return experiment_id(self.client, experiment_name(self.space), self.settings)

    @functools.cached_property
    def runs(self) -> dict[str, _Run]:
        """The study's runs by their fingerprints, as an earlier driver left them."""
        of_study = f"tags.`{STUDY}` = '{self.study}'"
        found: dict[str, _Run] = {}
        for run in pages(lambda token: self.client.search_runs([self.experiment], of_study, page_token=token)):
            tags = run.data.tags
            results = {value for key, value in tags.items() if key.startswith("lungtune.result.")}
            found[tags[FINGERPRINT]] = _Run(run.info.run_id, results, tags.get("lungtune.state"), run.info.status)
        return found

    # --- trials ---

    def fold_done(self, number: int, config: dict[str, Any], hashes: list[str]) -> None:
        """Write the fold runs of a trial that are not there yet: epoch curves, and the fold's Scores."""
        self.reported[number] = list(hashes)  # where MLflow is behind, the first job writes what came since, too
        self.outbox.put(lambda: self._write_folds(self._trial_run(number, config), self.reported[number]))

    def trial_ended(self, trial: FrozenTrial) -> None:
        """Write what is missing of a trial and close its run: mean, state, confusion matrix over its folds."""
        if trial.state.is_finished() and "config" in trial.user_attrs:
            self.outbox.put(lambda: self._write_trial(trial))

    def _write_trial(self, trial: FrozenTrial) -> None:
        run = self._trial_run(trial.number, trial.user_attrs["config"])
        if run.state == trial.state.name and run.status != "RUNNING":
            return
        hashes = trial.user_attrs.get("results", [])
        self._write_folds(run, hashes)
        results = [self._result(result_hash) for result_hash in hashes]
        self._draw(run, results, self.space.evaluation.protocol, f"trial {trial.number}: {{}} fold runs together")
        error = mask(trial.user_attrs.get("error") or "")
        tags: dict[str, str | None] = {"lungtune.state": trial.state.name, "lungtune.error": error}
        self._log(run, dict(zip(("objective", "cost"), trial.values or (), strict=False)), tags)
        self._end(run, {TrialState.FAIL: "FAILED", TrialState.PRUNED: "KILLED"}.get(trial.state, "FINISHED"))
        run.state = trial.state.name

    def _trial_run(self, number: int, config: dict[str, Any]) -> _Run:
        parsed = ExperimentConfig.model_validate(config)
        tags = {
            "lungtune.kind": "trial",
            "lungtune.trial": str(number),
            "lungtune.family": parsed.model.name,
            "lungtune.split": self.space.evaluation.split,
            "lungtune.protocol": self.space.evaluation.protocol,
        }
        name = f"trial {number} · {parsed.model.name}"
        return self._run(f"{self.study}:{parsed.config_hash}", name, tags, parsed)

    # --- finalists ---

    def promoted(
        self, family: str, number: int, search_value: float, config: ExperimentConfig, results: list[FoldResult]
    ) -> str | None:
        """The run of a finalist: every seed's curve and Scores, their means, its picture. None if MLflow is lost."""
        return self.outbox.ask(
            lambda: self._write_finalist(family, number, search_value, config, results), patience=PATIENCE
        )

    def _write_finalist(
        self, family: str, number: int, search_value: float, config: ExperimentConfig, results: list[FoldResult]
    ) -> str:
        split, protocol = self.space.promotion.split, config.training.protocol
        tags = {
            "lungtune.kind": "finalist",
            "lungtune.trial": str(number),
            "lungtune.family": family,
            "lungtune.split": split,
            "lungtune.protocol": protocol,
        }
        run = self._run(f"{self.study}:{config.config_hash}:{split}", f"finalist · {family}", tags, config)
        self.client.log_dict(run.run_id, config.model_dump(mode="json"), "config.json")
        self._write_results(run, enumerate(results), label="seed")
        metrics = {"search_objective": search_value}
        for name in results[0].protocols:
            rows = [result.protocols[name].test.flat() for result in results]
            for key in rows[0]:
                metrics[f"{name}/{key}"] = float(np.mean([row[key] for row in rows if key in row]))
        self._log(run, metrics)
        self._draw(run, results, protocol, f"{family} on {split}: {{}} seeds together")
        self._end(run, "FINISHED")
        return run.run_id

    def finish_sweep(self, trials: list[TrialSummary], pareto: frozenset[int]) -> None:
        """Write the sweep's table and its best value to the parent run; `pareto` has the numbers of the Pareto set."""
        values = [trial.value for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
        table = [{**asdict(trial), "pareto": trial.trial in pareto} for trial in trials]
        metrics = {"trials": float(len(trials))} | ({"best_objective": max(values)} if values else {})

        def write() -> None:
            parent = self._parent()
            self._log(parent, metrics)
            self.client.log_dict(parent.run_id, {"trials": table}, "trials.json")
            self.client.log_dict(parent.run_id, self.space.model_dump(mode="json"), "search_space.json")

        self.outbox.put(write)

    # --- writing, in the outbox's thread ---

    def _parent(self) -> _Run:
        """The sweep's own run."""
        return self._run(
            self.study, self.study, {"lungtune.kind": "sweep", "mlflow.note.content": self.space.description}
        )

    def _run(self, fingerprint: str, name: str, tags: dict[str, str], config: ExperimentConfig | None = None) -> _Run:
        """The run with that fingerprint, running unless it has ended: found, or made with its parameters."""
        run = self.runs.get(fingerprint)
        if run is None:
            tags = {**tags, FINGERPRINT: fingerprint, STUDY: self.study, **source_tags()}
            if config is not None:
                tags |= {
                    "mlflow.parentRunId": self._parent().run_id,
                    "lungtune.objective": config.objective.name,
                    "lungtune.config_hash": config.config_hash,
                    "lungtune.compat": ", ".join(config.compat) or "none",
                }
            made = self.client.create_run(self.experiment, run_name=name, tags=tags)
            run = self.runs[fingerprint] = _Run(made.info.run_id, set(), None, "RUNNING")
            if config is not None:
                parameters = [
                    Param(key, mask(str(value))) for key, value in flatten(config.model_dump(mode="json")).items()
                ]
                for start in range(0, len(parameters), PARAMETERS):
                    self.client.log_batch(run.run_id, params=parameters[start : start + PARAMETERS])
        elif run.status != "RUNNING" and run.state is None:
            self.client.update_run(run.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
            run.status = "RUNNING"
        return run

    def _write_folds(self, run: _Run, hashes: Sequence[str]) -> None:
        """Write those fold runs of a trial that are not there yet; only they are read."""
        missing = [(position, name) for position, name in enumerate(hashes) if name not in run.results]
        self._write_results(run, ((position, self._result(name)) for position, name in missing))

    def _result(self, result_hash: str) -> FoldResult:
        result = self.results.get(result_hash)
        assert result is not None
        return result

    def _write_results(self, run: _Run, results: Iterable[tuple[int, FoldResult]], label: str = "fold") -> None:
        """Curves and Scores of results by position, each once, as many at a time as MLflow takes."""
        metrics: list[Metric] = []
        tags: list[RunTag] = []
        for position, result in results:
            if result.hash in run.results:
                continue
            own = result_metrics(result, label)
            if len(metrics) + len(own) > BATCH:
                self._write_batch(run, metrics, tags)
                metrics, tags = [], []
            metrics += own
            tags.append(RunTag(f"lungtune.result.{position}", result.hash))
        self._write_batch(run, metrics, tags)

    def _write_batch(self, run: _Run, metrics: list[Metric], tags: list[RunTag]) -> None:
        """Metrics of whole results; the tags that say that a result is there go with the last of them."""
        for start in range(0, len(metrics), BATCH):
            last = start + BATCH >= len(metrics)
            self.client.log_batch(run.run_id, metrics=metrics[start : start + BATCH], tags=tags if last else [])
        run.results.update(tag.value for tag in tags)

    def _draw(self, run: _Run, results: Sequence[FoldResult], protocol: str, title: str) -> None:
        """The confusion matrix over some results."""
        if results:
            confusion = np.sum([result.protocols[protocol].test.confusion for result in results], axis=0)
            text = f"{title.format(len(results))}, {protocol} epoch"
            picture = confusion_figure(confusion, results[0].data.classes, text)
            self.client.log_image(run.run_id, picture, artifact_file="confusion_matrix.png")

    def _log(self, run: _Run, metrics: dict[str, float], tags: dict[str, str | None] | None = None) -> None:
        now = int(time.time() * 1000)
        finite = {key: value for key, value in metrics.items() if np.isfinite(value)}
        self.client.log_batch(
            run.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in finite.items()],
            tags=[RunTag(key, value[:5000]) for key, value in (tags or {}).items() if value],
        )

    def _end(self, run: _Run, status: str) -> None:
        self.client.set_terminated(run.run_id, status)
        run.status = status

    def _close(self, status: str) -> None:
        """No run of this sweep is left running."""

        def end_all() -> None:
            for run in self.runs.values():
                if run.status == "RUNNING" and run is not self._parent():
                    self._end(run, "KILLED")
            self._end(self._parent(), status)

        self.outbox.put(end_all)
        left = self.outbox.close(PATIENCE)
        if left:
            self.watch(
                MlflowLost(f"{counted(left, 'entry', 'entries')} not written; the next start writes what is left")
            )

    def _lost(self, error: Exception) -> bool:
        """Whether to try again; then what is there is read again, since only the answer may have been lost."""
        if lost := is_lost(error):
            self.__dict__.pop("runs", None)
        return lost

    def _tell(self, error: Exception) -> None:
        """MLflow's faults are reported, never raised: that it is lost, or what it refuses and what to do."""
        if is_lost(error):
            first = (str(error).splitlines() or [""])[0][:200]
            self.watch(MlflowLost(f"{type(error).__name__}: {mask(first)}"))
            return
        self.refused = str(refusal(error, experiment_name(self.space)))
        self.watch(MlflowRefused(self.refused))


def experiment_name(space: SearchSpace) -> str:
    """The experiment of a sweep: one per dataset and task."""
    return f"{space.base.get('dataset', 'icbhi')}-{space.base.get('task', 'lungsound4')}"
