"""The model card: everything that a registered version says of itself. Its tags, JSON and page come from it alone."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from feature_store.counted import counted
from feature_store.metrics import LABELS, USUAL, Metric
from orchestrator.analysis.items import Estimate

SCHEMA = 1
LICENCE = "MIT"
INTENDED_USE = (
    "Research on the classification of respiratory sounds: comparing methods, and describing recordings that were made "
    "as those of its training data were."
)
LIMITS = (
    "Not a medical device: no diagnosis and no treatment may rest on it.",
    "Its numbers hold for the test side named here. Other stethoscopes, rooms, ages and diseases were not tested.",
    "It was trained on annotated respiratory cycles. Windows cut from a whole recording are not cycles: their "
    "probabilities are less certain than its numbers say.",
    "The probabilities are those of a softmax; nothing calibrates them.",
)


class Part(BaseModel):
    """Base of the card's parts; unknown keys of a newer version are left out, not refused."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class CardEstimate(Estimate):
    """A rate in percent: mean over seeds, and where it has them, deviation and 95 % interval over patients."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.2f}"
        interval = "" if self.low is None or self.high is None else f" (95 %: {self.low:.2f} to {self.high:.2f})"
        return f"{self.mean:.2f}{spread}{interval}"


class DeviceRow(Part):
    """What the test cycles of one recording device say; percent, mean over seeds, `score` by the card's metric."""

    device: str
    cycles: int
    patients: int
    score: float
    specificity: float
    sensitivity: float


class SearchPart(Part):
    """How the search saw the config, over folds inside the training side."""

    study: str
    objective: float = Field(description="what the search maximised, mean over its folds")
    split: str = ""
    split_hash: str = ""
    folds: list[int] = []
    seeds: list[int] = []
    protocol: str = ""
    score: CardEstimate | None = Field(
        default=None, description="by the card's metric; null where the search's fold runs are gone"
    )
    patients_on_both_sides: list[str] = []
    results: list[str] = Field(default=[], description="the search's fold runs")

    @property
    def cohort(self) -> tuple[Any, ...]:
        """What two searches must share for their intervals to be compared."""
        return self.split, self.split_hash, tuple(self.folds), self.protocol


class Pretrained(Part):
    """The file of weights that the training began with."""

    file: str
    sha256: str | None = None
    licence: str = Field(description="`unknown` where the file is none of those that lungtune knows")


class Dependency(Part):
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class ModelCard(Part):
    """A registered version. Counts are cycles unless named otherwise; lists of seeds and folds are sorted."""

    schema_version: int = SCHEMA
    name: str = Field(description="of the registered model")
    family: str = Field(description="`model.name` of the config")
    model: str = Field(description="family and size, for people")
    parameters: int
    objective: str
    pretrained: Pretrained | None = None

    score: CardEstimate = Field(description="the task's own metric, `metric`")
    specificity: CardEstimate = Field(
        description="that goes with the metric, as in `workers.evaluation`; sensitivity too"
    )
    sensitivity: CardEstimate
    score_icbhi2: CardEstimate = Field(description="any abnormal class counts")
    metric: Metric = USUAL
    devices: list[DeviceRow]
    search: SearchPart | None = None

    dataset: str
    task: str
    classes: list[str]
    split: str
    folds: int = Field(description="of the split")
    protocol: str
    seeds: list[int]
    runs: list[tuple[int, int]] = Field(description="seed and fold of every fold run behind the numbers")
    weights_seed: int = Field(description="the seed whose weights these are: best on its held-out patients")
    weights_fold: int
    recordings: int
    recordings_listed: int
    synthetic: bool
    train_cycles: int
    validation_cycles: int
    test_cycles: int
    train_patients: int
    test_patients: int
    patients_on_both_sides: list[str]
    compat: list[str]
    test_reads: int = Field(description="most reads of the test side by one training")

    config_hash: str
    data_hash: str
    split_hash: str
    feature_id: str
    semantics: int
    results: list[str] = Field(description="names of the fold runs behind the numbers")
    weights_result: str
    weights_sha256: str

    lungtune: str
    git_commit: str
    python: str
    torch: str
    dependencies: list[Dependency]
    trained_on: list[str] = Field(description="devices, each distinct one once")
    finished: str = Field(description="end of the last training, UTC")
    train_seconds: float = Field(description="of all its fold runs")
    gpu_hours: float | None = Field(default=None, description="null where it was trained on a CPU")
    energy_kwh: float | None = Field(default=None, description="null where it was not measured")

    feature_seconds: float = Field(description="length of what the model receives at once, s")
    sample_rate: int = Field(description="that recordings are resampled to, Hz")
    table: int = Field(default=0, description="numbers of the corpus' list that it takes beside each sound")
    licence: str = LICENCE
    intended_use: str = INTENDED_USE
    limits: tuple[str, ...] = LIMITS

    @property
    def metric_label(self) -> str:
        """What `score` is called."""
        return LABELS[self.metric]

    @property
    def missing_runs(self) -> list[tuple[int, int]]:
        """Seed and fold of those that the numbers lack."""
        wanted = {(seed, fold) for seed in self.seeds for fold in range(self.folds)}
        return sorted(wanted - set(self.runs))

    def same_data(self, other: ModelCard) -> bool:
        """Whether the numbers of two versions compare: the same cycles of the same corpus, which sound the same.

        The data's hash covers the feature too, so it tells of changed sound or labels only where the feature is one.
        """
        shared = ("dataset", "task", "split", "split_hash", "synthetic", "recordings")
        changed = self.feature_id == other.feature_id and self.data_hash != other.data_hash
        return not changed and all(getattr(self, name) == getattr(other, name) for name in shared)

    @property
    def extent(self) -> str:
        """`all 920 recordings`, or how much of them it is."""
        if self.synthetic:
            return counted(self.recordings, "synthetic recording")
        if self.recordings < self.recordings_listed:
            return f"{self.recordings} of {counted(self.recordings_listed, 'recording')}: a partial database"
        return f"all {counted(self.recordings, 'recording')}"

    def tags(self) -> dict[str, str]:
        """The card as tags of a model version: each number by its name, and under ``card`` the whole as JSON."""
        search = self.search
        tags: dict[str, Any] = {
            "score": self.score.mean,
            "score_sd": self.score.sd,
            "score_low": self.score.low,
            "score_high": self.score.high,
            "specificity": self.specificity.mean,
            "sensitivity": self.sensitivity.mean,
            "score_icbhi2": self.score_icbhi2.mean,
            "metric": self.metric,
            "search_objective": f"{search.objective:.4f}" if search else None,
            "search_low": search.score.low if search and search.score else None,
            "search_high": search.score.high if search and search.score else None,
            "search_split": search.split if search else None,
            "study": search.study if search else None,
            "split": self.split,
            "protocol": self.protocol,
            "seeds": ",".join(map(str, self.seeds)),
            "weights_seed": self.weights_seed,
            "model": self.family,
            "parameters": self.parameters,
            "objective": self.objective,
            "pretrained": self.pretrained.file if self.pretrained else None,
            "pretrained_licence": self.pretrained.licence if self.pretrained else None,
            "dataset": self.dataset,
            "task": self.task,
            "recordings": f"{self.recordings} of {self.recordings_listed}",
            "synthetic": str(self.synthetic).lower(),
            "config_hash": self.config_hash,
            "data_hash": self.data_hash,
            "feature_id": self.feature_id,
            "split_hash": self.split_hash,
            "weights_sha256": self.weights_sha256,
            "results": ",".join(name[:12] for name in self.results),
            "lungtune": self.lungtune,
            "git_commit": self.git_commit,
            "semantics": self.semantics,
            "dependencies": " ".join(map(str, self.dependencies)),
            "train_seconds": f"{self.train_seconds:.1f}",
            "gpu_hours": None if self.gpu_hours is None else f"{self.gpu_hours:.4f}",
            "energy_kwh": None if self.energy_kwh is None else f"{self.energy_kwh:.4f}",
            "licence": self.licence,
            "intended_use": self.intended_use,
        }
        named = {key: f"{value:.2f}" if isinstance(value, float) else str(value) for key, value in tags.items()}
        return {key: value for key, value in named.items() if tags[key] not in (None, "")} | {
            "card": self.model_dump_json()
        }

    @classmethod
    def of_tags(cls, tags: dict[str, str]) -> ModelCard | None:
        """The card of a registered version; None if an older lungtune registered it."""
        return cls.model_validate_json(tags["card"]) if "card" in tags else None
