"""The model registry: versions with their cards in MLflow, and which one of them the policy makes champion."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from feature_store.errors import UserError, nearest
from feature_store.redaction import mask
from feature_store.settings import Settings
from orchestrator.registry.card.build_card import make_card, search_part
from orchestrator.registry.card.card import ModelCard
from orchestrator.registry.card.card_markdown import description
from orchestrator.registry.decision import (
    NOT_THERE,
    ChampionRecord,
    Decision,
    read_changes,
    write_change,
    write_decision,
)
from orchestrator.registry.package import save_model
from orchestrator.registry.policy import Policy, Standing, Verification
from orchestrator.registry.verification import verify
from orchestrator.registry.version import CHAMPION, Registered, card_of, change_to
from orchestrator.tracking.client import LOST, connect, pages
from orchestrator.tracking.moved_home import address_now
from workers.config import ExperimentConfig
from workers.provenance import now
from workers.results import WEIGHTS, FoldResult, ResultStore


class Registry:
    """Registered models of one installation: one a dataset and task, one version a promoted config."""

    def __init__(
        self, client: MlflowClient, results: ResultStore, settings: Settings, policy: Policy | None = None
    ) -> None:
        self.client, self.results, self.settings = client, results, settings
        if policy is not None:
            self.policy = policy

    @classmethod
    def open(cls, settings: Settings, policy: str | Path | None = None, *, asks: bool = False) -> Registry:
        """The registry of an installation.

        Args:
            settings: where it is.
            policy: a policy's file; if not given the configured one, which is read when a version is judged.
            asks: whether a server that does not answer is an error at once; see `tracking_client.connect`.

        Raises:
            UserError: that file is not there or is no policy, or MLflow cannot be used.
        """
        loaded = Policy.load(policy) if policy is not None else None
        return cls(connect(settings, asks), ResultStore.open(settings.results), settings, loaded)

    @functools.cached_property
    def policy(self) -> Policy:
        """The rules by which versions are judged."""
        return Policy.load()

    # --- registering and promoting ---

    def register(
        self,
        config: ExperimentConfig,
        results: list[FoldResult],
        *,
        search_value: float,
        study: str,
        run_id: str,
        search_results: Sequence[str] = (),
        search_protocol: str | None = None,
    ) -> Registered:
        """Register a promoted config, the same one on the same data once, and judge it by the policy.

        The weights are those of the seed that does best on its held-out patients, so that the test side does not
        choose. A version that was judged before is judged again only against another champion or by another policy.

        Args:
            config, results: the config and its fold runs on the whole training side.
            search_value: what the search gave it.
            study: the search.
            run_id: MLflow's run that takes the files.
            search_results: the trial's fold runs, from whose predictions the search's interval comes.
            search_protocol: whose epoch the search scored; the config's own if not given.

        Raises:
            UserError: the configured policy cannot be read, or the runs were stored without weights.
        """
        _ = self.policy  # a wrong one is reported before anything is written
        name = f"{config.dataset}-{config.task}"
        version = self._existing(name, config, results)
        if version is None:
            protocol = search_protocol or config.training.protocol
            metric = results[0].data.metric
            search = search_part(study, search_value, search_results, protocol, self.results, metric)
            card = make_card(name, config, results, self.results, search)
            version = self._create(name, config, card, run_id)
        return self._judge(self._get(name, version))

    def promote(self, version: Registered, *, forced: str | None = None) -> Registered:
        """Judge a version again, and make it champion if every rule passes.

        Args:
            version: to be judged.
            forced: why it becomes champion whatever the rules say; recorded as such.

        Returns:
            The version as it is now; its `decision` says what was decided and why.

        Raises:
            UserError: an older lungtune registered it, so that there is no card to judge, or it cannot be read.
        """
        return self._judge(version, forced=forced, again=True)

    def verify(self, version: Registered) -> Verification:
        """Whether the version's weights give its stored predictions again; see `verification.verify`."""
        try:
            with self.files(version) as folder:
                weights = (folder / WEIGHTS).read_bytes()
        except (UserError, FileNotFoundError) as error:
            return Verification(problem=str(error))
        return verify(card_of(version), weights, self.results, self.settings)

    def history(self, name: str) -> list[ChampionRecord]:
        """All champions that a registered model has had, oldest first; empty where there is no such model.

        Raises:
            UserError: one of them was registered by another hand than lungtune's, or changed since.
        """
        try:
            changes = read_changes(self.client, name)
            champion = self.champion(name)
            if champion and (not changes or changes[-1].version != champion.version):
                changes.append(change_to(champion))  # a driver was killed after it had moved the alias
        except (KeyError, ValueError) as error:
            hint = "see its tags and its champion's in MLflow: lungtune did not write all of them"
            raise UserError("the history of its champions cannot be read", where=name, hint=hint) from error
        return changes

    # --- finding ---

    def champion(self, name: str) -> Registered | None:
        """The version that bears the alias, if there is one."""
        try:
            found = self.client.get_model_version_by_alias(name, CHAMPION)
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise  # a server that is lost, or refuses, has not said that there is none
            return None
        return Registered(name, str(found.version), (CHAMPION,), dict(found.tags))

    def versions(self) -> list[Registered]:
        """All versions of all models, newest first within a model."""
        found = []
        for model in pages(lambda token: self.client.search_registered_models(page_token=token)):
            aliases: dict[str, list[str]] = {}
            for alias, version in self.client.get_registered_model(model.name).aliases.items():
                aliases.setdefault(str(version), []).append(alias)
            for version in self._versions(model.name):
                number = str(version.version)
                found.append(Registered(model.name, number, tuple(aliases.get(number, ())), dict(version.tags)))
        return sorted(found, key=lambda v: (v.name, -int(v.version)))

    def find(self, name: str) -> Registered:
        """A version by ``model``, ``model@alias`` or ``model/version``; the champion if neither is given.

        ``champion`` alone is that of the only registered model.

        Raises:
            UserError: there is none such, or more than one.
        """
        versions = self.versions()
        champions = [version for version in versions if CHAMPION in version.aliases]
        if name == CHAMPION and len(champions) == 1:
            return champions[0]
        if name == CHAMPION and champions:
            hint = ", ".join(f"{version.name}@{CHAMPION}" for version in champions)
            raise UserError(f"there are {len(champions)} champions", hint=f"name the model: {hint}")
        model, _, number = name.partition("/")
        model, _, alias = model.partition("@")
        for candidate in versions:
            wanted = candidate.version == number if number else (alias or CHAMPION) in candidate.aliases
            if candidate.name == model and wanted:
                return candidate
        known = [str(v) for v in versions] + [f"{v.name}@{a}" for v in versions for a in v.aliases]
        hint = nearest(name, known) if known else "nothing is registered yet: run `lungtune sweep`"
        raise UserError(f"no registered model '{name}'", hint=hint)

    @contextlib.contextmanager
    def files(self, version: Registered) -> Iterator[Path]:
        """A folder with the version's config and weights, as `workers.inference.SoundModel` takes it.

        It is the artifact store's own where that is a local folder; else a copy that goes with the context.

        Raises:
            UserError: the files are gone, or their server cannot be reached.
        """
        source = str(self.client.get_model_version(version.name, version.version).source)
        source = address_now(source, self.settings)  # of a home that is mounted read-only
        with tempfile.TemporaryDirectory() as copy:
            place = None if urlsplit(source).scheme in ("", "file") else copy
            try:
                folder = mlflow.artifacts.download_artifacts(
                    f"{source}/artifacts", dst_path=place, tracking_uri=self.settings.mlflow
                )
            except LOST as error:
                what = f"the model's files are gone from {mask(source)}, or cannot be fetched"
                hint = "`lungtune predict` also takes a fold run, by the beginning of its hash"
                raise UserError(what, where=str(version), hint=hint) from error
            yield Path(folder)

    # --- inside ---

    def _judge(self, version: Registered, *, forced: str | None = None, again: bool = False) -> Registered:
        """Decide, write the decision down, and move the alias if it says so.

        Two drivers may do this at once. Each looks again right before it moves the alias, and decides again if another
        champion is there by then. What remains is a moment in which the later of two writers wins, whose decision
        names the champion that it was made against.
        """
        while True:
            champion = self.champion(version.name)
            if champion is not None and champion.version == version.version:
                return self._get(version.name, version.version)
            decision = self._decide(version, champion, forced, again)
            now_champion = self.champion(version.name)
            if (now_champion and now_champion.version) == decision.against:
                break
        write_decision(self.client, version.name, version.version, decision)
        if decision.promoted:
            self.client.set_registered_model_alias(version.name, CHAMPION, version.version)
            write_change(self.client, version.name, change_to(self._get(version.name, version.version)))
        return self._get(version.name, version.version)

    def _decide(self, version: Registered, champion: Registered | None, forced: str | None, again: bool) -> Decision:
        against = champion.version if champion else None
        known = version.decision
        if known and not again and (known.against, known.policy_hash) == (against, self.policy.hash):
            return known
        standing = Standing(champion.version, champion.readable_card) if champion else None
        judged = forced is None or version.readable_card is not None  # without a card there is nothing to judge
        rules = self.policy.judge(card_of(version), standing, lambda: self.verify(version)) if judged else []
        return Decision.of(self.policy, rules, against, now(), forced)

    def _get(self, name: str, version: str) -> Registered:
        found = self.client.get_model_version(name, version)
        aliases = self.client.get_registered_model(name).aliases.items()
        bears = tuple(alias for alias, number in aliases if str(number) == str(version))
        return Registered(name, str(version), bears, dict(found.tags))

    def _existing(self, name: str, config: ExperimentConfig, results: list[FoldResult]) -> str | None:
        key = results[0].key
        names = ",".join(sorted(result.hash[:12] for result in results))
        wanted = {"config_hash": config.config_hash, "data_hash": key.data_hash, "split": key.split, "results": names}
        for version in self._versions(name):
            if "card" in version.tags and all(version.tags.get(tag) == value for tag, value in wanted.items()):
                return str(version.version)
        return None

    def _versions(self, name: str) -> Iterator[ModelVersion]:
        return pages(lambda token: self.client.search_model_versions(f"name = '{name}'", page_token=token))

    def _create(self, name: str, config: ExperimentConfig, card: ModelCard, run_id: str) -> str:
        try:
            self.client.create_registered_model(name, description=f"lungtune's best models for {name}")
        except MlflowException:
            self.client.get_registered_model(name)  # there already; anything else raises here
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "model"
            save_model(package, config, card, self.results)
            self.client.log_artifacts(run_id, str(package), "model")
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        version = self.client.create_model_version(
            name, source=source, run_id=run_id, tags=card.tags(), description=description(card)
        )
        return str(version.version)
