"""What stands on one night: ranks, champions, which registered models still are what their cards say, failed trials."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feature_store.metrics import USUAL, Metric
from feature_store.settings import Settings
from feature_store.storage import Storage
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.studies.storage import open_storage as open_studies

SCHEMA = 1
FOLDER, NAME = "nightly", "snapshot.json"


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Standing(Part):
    """An entry of the board."""

    board: str = Field(description="dataset, task and split")
    protocol: str
    label: str = Field(description="model and objective")
    rank: int | None = Field(description="null: not ranked")
    score: float | None
    metric: Metric = Field(default=USUAL, description="of the score")
    note: str | None = Field(default=None, description="why it is not ranked")
    contradicted: bool = Field(default=False, description="a stored number is not what the stored predictions give")


class Checked(Part):
    """A registered version, run again from its weights."""

    passed: bool
    detail: str


class Snapshot(Part):
    """One night.

    Attributes:
        when: UTC, ISO 8601.
        entries: by the entry's id.
        champions: registered model -> version.
        checked: registered model/version -> what the check found.
        failed: study/trial -> its error.
        problems: result -> why the board leaves it out.
    """

    schema_version: int = SCHEMA
    when: str
    entries: dict[str, Standing] = {}
    champions: dict[str, str] = {}
    checked: dict[str, Checked] = {}
    failed: dict[str, str] = {}
    problems: dict[str, str] = {}

    @property
    def refused(self) -> dict[str, Checked]:
        """Registered versions that no longer are what their card says."""
        return {name: found for name, found in self.checked.items() if not found.passed}


def standings(board: Leaderboard) -> dict[str, Standing]:
    """Every entry of every table, ranked or not."""
    found: dict[str, Standing] = {}
    for part in board.boards:
        place = f"{part.data.dataset} {part.data.task} {part.data.split}"
        for table in part.tables:
            for entry in (*table.entries, *table.incomplete):
                label = f"{entry.model.label}, {entry.objective.label} ({entry.config_hash[:8]})"
                score = entry.numbers.score.mean if entry.numbers else None
                found[entry.id] = Standing(
                    board=place,
                    protocol=table.protocol,
                    label=label,
                    rank=entry.rank,
                    score=score,
                    metric=table.metric,
                    note=entry.note,
                    contradicted=entry.contradicted,
                )
    return found


def failed_trials(settings: Settings) -> dict[str, str]:
    """The error of every trial of every study that failed by its own fault."""
    storage, found = open_studies(settings.optuna), {}
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if not trial.user_attrs.get("abandoned"):
                found[f"{name}/{trial.number}"] = str(trial.user_attrs.get("error"))
    return found


def latest(storage: Storage) -> Snapshot | None:
    """The newest snapshot that can be read; None on the first night."""
    for key in reversed([key for key in storage.list(FOLDER) if key.endswith(f"/{NAME}")]):
        try:
            snapshot = Snapshot.model_validate_json(storage.read(key))
        except (ValidationError, OSError):  # another version's, just cleared away, or not readable
            continue
        if snapshot.schema_version == SCHEMA:
            return snapshot
    return None


def folder_of(when: str) -> str:
    """Where a night's files lie; names sort by time."""
    return f"{FOLDER}/{when.replace(':', '').replace('+0000', 'Z')}"
