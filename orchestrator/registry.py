"""The model registry: what was promoted, with its Score and where it came from, in MLflow."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from feature_store.errors import UserError, nearest
from feature_store.settings import Settings
from orchestrator.model_package import save_model
from orchestrator.tracking import connect
from workers.config import ExperimentConfig
from workers.results import FoldResult, ResultStore

CHAMPION = "champion"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def score(self) -> float:
        return float(self.tags["score"])


class Registry:
    """Registered models of one installation: one a dataset and task, one version a promoted config."""

    def __init__(self, client: MlflowClient, results: ResultStore) -> None:
        self.client, self.results = client, results

    @classmethod
    def open(cls, settings: Settings) -> Registry:
        return cls(connect(settings), ResultStore.open(settings.results))

    def register(
        self, config: ExperimentConfig, results: list[FoldResult], *, search_value: float, study: str, run_id: str
    ) -> Registered:
        """Register a promoted config; the same one on the same data is registered once.

        The weights are those of the seed with the best Score on its held-out patients, so that the test side does not
        choose. `champion` moves to the version if no champion on the same data had a better Score in its search.
        """
        name = f"{config.dataset}-{config.task}"
        tags = describe(config, results, search_value, study)
        version = self._existing(name, tags)
        if version is None:
            version = self._create(name, config, results, tags, run_id)
        tags = dict(tags)
        champion = self.champion(name)
        if champion is None or champion.version == version or _succeeds(tags, champion.tags):
            tags["promoted_because"] = _reason(tags, champion, version)
            self.client.set_model_version_tag(name, version, "promoted_because", tags["promoted_because"])
            self.client.set_registered_model_alias(name, CHAMPION, version)
            return Registered(name, version, (CHAMPION,), tags)
        return Registered(name, version, (), tags)

    def champion(self, name: str) -> Registered | None:
        """The version that bears the alias, if there is one."""
        try:
            found = self.client.get_model_version_by_alias(name, CHAMPION)
        except MlflowException:
            return None
        return Registered(name, str(found.version), (CHAMPION,), dict(found.tags))

    def versions(self) -> list[Registered]:
        """All versions of all models, newest first within a model."""
        found = []
        for model in self.client.search_registered_models():
            aliases: dict[str, list[str]] = {}
            for alias, version in self.client.get_registered_model(model.name).aliases.items():
                aliases.setdefault(str(version), []).append(alias)
            for version in self.client.search_model_versions(f"name = '{model.name}'"):
                number = str(version.version)
                found.append(Registered(model.name, number, tuple(aliases.get(number, ())), dict(version.tags)))
        return sorted(found, key=lambda v: (v.name, -int(v.version)))

    def find(self, name: str) -> Registered:
        """A version by ``model``, ``model@alias`` or ``model/version``; the champion if neither is given.

        Raises:
            UserError: there is none such.
        """
        model, _, version = name.partition("/")
        model, _, alias = model.partition("@")
        versions = self.versions()
        for candidate in versions:
            wanted = candidate.version == version if version else (alias or CHAMPION) in candidate.aliases
            if candidate.name == model and wanted:
                return candidate
        known = [f"{v.name}/{v.version}" for v in versions] + [f"{v.name}@{a}" for v in versions for a in v.aliases]
        hint = nearest(name, known) if known else "nothing is registered yet: run `lungtune sweep`"
        raise UserError(f"no registered model '{name}'", hint=hint)

    # --- writing ---

    def _existing(self, name: str, tags: dict[str, str]) -> str | None:
        for version in self.client.search_model_versions(f"name = '{name}'"):
            if all(version.tags.get(key) == tags[key] for key in ("config_hash", "data_hash", "split", "results")):
                return str(version.version)
        return None

    def _create(
        self, name: str, config: ExperimentConfig, results: list[FoldResult], tags: dict[str, str], run_id: str
    ) -> str:
        try:
            self.client.create_registered_model(name, description=f"lungtune's best models for {name}")
        except MlflowException:
            self.client.get_registered_model(name)  # there already; anything else raises here
        chosen = best_seed(config, results)
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "model"
            save_model(package, config, chosen, self.results, tags)
            self.client.log_artifacts(run_id, str(package), "model")
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        version = self.client.create_model_version(name, source=source, run_id=run_id, tags=tags)
        return str(version.version)


def best_seed(config: ExperimentConfig, results: list[FoldResult]) -> FoldResult:
    """The run with the best Score on its held-out patients, under the config's protocol; of equal ones the first."""
    protocol = config.training.protocol

    def held_out(result: FoldResult) -> float:
        validation = result.protocols[protocol].validation
        return validation.icbhi4.score if validation else 0.0

    return max(results, key=held_out)


def describe(config: ExperimentConfig, results: list[FoldResult], search_value: float, study: str) -> dict[str, Any]:
    """What a registered version says of itself: Scores as means over its seeds, in percent."""
    protocol = config.training.protocol
    tests = [result.protocols[protocol].test for result in results]
    scores = [test.icbhi4.score for test in tests]
    first = results[0]
    chosen = best_seed(config, results)
    tags = {
        "score": f"{statistics.fmean(scores):.2f}",
        "score_sd": f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "",
        "specificity": f"{statistics.fmean(test.icbhi4.specificity for test in tests):.2f}",
        "sensitivity": f"{statistics.fmean(test.icbhi4.sensitivity for test in tests):.2f}",
        "score_icbhi2": f"{statistics.fmean(test.icbhi2.score for test in tests):.2f}",
        "metric": "icbhi4",
        "search_objective": f"{search_value:.4f}",
        "split": first.key.split,
        "protocol": protocol,
        "seeds": ",".join(str(result.key.seed) for result in results),
        "weights_seed": str(chosen.key.seed),
        "model": config.model.name,
        "objective": config.objective.name,
        "dataset": config.dataset,
        "task": config.task,
        "recordings": f"{first.data.recordings} of {first.data.recordings_listed}",
        "synthetic": str(first.data.synthetic).lower(),
        "config_hash": config.config_hash,
        "data_hash": first.key.data_hash,
        "feature_id": first.key.feature_id,
        "split_hash": first.key.split_hash,
        "results": ",".join(sorted(result.hash[:12] for result in results)),
        "study": study,
        "git_commit": first.provenance.git_commit,
        "train_seconds": f"{sum(result.timing['train_seconds'] for result in results):.1f}",
    }
    return {key: value for key, value in tags.items() if value}


def _succeeds(tags: dict[str, str], champion: dict[str, str]) -> bool:
    """Whether a version takes over: judged by the search's Score, never by the test side's."""
    if any(tags.get(key) != champion.get(key) for key in ("data_hash", "split")):
        return True  # other data: the two Scores cannot be compared, and the newer data counts
    return float(tags["search_objective"]) > float(champion.get("search_objective", "-inf"))


def _reason(tags: dict[str, str], champion: Registered | None, version: str) -> str:
    if champion is None:
        return "the first registered version"
    if champion.version == version:
        return champion.tags.get("promoted_because", "the first registered version")
    if tags.get("data_hash") != champion.tags.get("data_hash"):
        return f"version {champion.version} was trained on other data"
    return (
        f"search Score {tags['search_objective']} above {champion.tags.get('search_objective')} of "
        f"version {champion.version}"
    )
