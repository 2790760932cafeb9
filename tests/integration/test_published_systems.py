"""The four published systems and the CRNN, each by its own shipped search space or preset, in one house.

Only sizes and lengths are scaled down. All share a store, a result store, a registry and a board, as a user's would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feature_store.build import build
from feature_store.datasets import CORPORA, open_corpus
from feature_store.features import NAMED
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from feature_store.yaml_files import read_yaml
from orchestrator.events import Event, FoldDone, TrialEnded
from orchestrator.nightly import run_night
from orchestrator.nightly.snapshot import latest
from orchestrator.registry.registry import Registry
from orchestrator.sweep.run import SweepOutcome, run_sweep
from search_spaces.overrides import merge, override
from search_spaces.schema import SearchSpace
from tests.support.breathing_clips import write_clips
from tests.support.voice_clips import write_voices
from workers.results import ResultStore

SPACES = Path(__file__).parents[2] / "search_spaces"
CRNN = {"name": "crnn", "base": {"preset": "crnn"}, "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}}}


@dataclass(frozen=True)
class System:
    """A system as it is shipped, and what makes it small.

    Attributes:
        space: a file of search_spaces/, or a space's content.
        split: of the promotion; the search runs over two folds inside its training side.
        trials: how many.
        small: as by ``--set``: sizes and lengths.
    """

    space: str | dict[str, Any]
    dataset: str
    task: str
    features: tuple[str, ...]
    split: str
    trials: int = 1
    small: tuple[str, ...] = ()

    def load(self) -> SearchSpace:
        content = read_yaml(SPACES / self.space) if isinstance(self.space, str) else self.space
        scaled = {
            "evaluation": {"split": f"{self.split}-inner2", "protocol": "last", "metric": None},
            "promotion": {"split": self.split, "seeds": [0, 1]},
            "search": {"trials": self.trials, "sampler": "random", "pruner": {"name": "none"}},
            "resources": {"cpus": 1, "gpus": 0},
        }
        return SearchSpace.parse(override(merge(content, scaled), self.small))


SYSTEMS = {
    "Patch-Mix CL": System(
        "ast_patchmix_cl.yaml", "icbhi", "lungsound4", ("fbank-small",), "official",
        small=(
            "base.feature=fbank-small", "base.model.size=tiny", "base.model.pretrained=null",
            "base.objective.proj_dim=192", "base.training.epochs=1",
        ),
    ),
    "CycleGuardian": System(
        "cycleguardian.yaml", "icbhi", "lungsound4", ("hybrid-augmented",), "official-patient-test",
        small=("base.model.group_step=110", "base.training.epochs=1", "base.training.batch_size=16"),
    ),
    "AI CUP voice": System(
        "aicup_voice.yaml", "aicup-voice", "voice5", tuple(f"voice-mfcc{n}" for n in (13, 17, 21, 30, 50)),
        "first-fold", trials=5, small=("base.training.epochs=1", "base.training.batch_size=8"),
    ),
    "breathing phase": System(
        "breathing_phase.yaml", "breathing-phase", "phase2", ("phase9",), "grouped", trials=2,
        small=(
            "base.model.resize=0.25", "base.training.epochs=1", "base.training.batch_size=8",
            "families.vgg.base.training.epochs=1",
        ),
    ),
    "CRNN": System(
        CRNN, "icbhi", "lungsound4", ("fbank-small",), "official",
        small=("base.feature=fbank-small", "base.training.epochs=1"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, synthetic_corpus: Path) -> Settings:
    """One home with every system's corpus and features."""
    home = Settings.load(tmp_path_factory.mktemp("home"))
    roots = {
        "icbhi": synthetic_corpus,
        "aicup-voice": write_voices(tmp_path_factory.mktemp("voices"), count=60),
        "breathing-phase": write_clips(tmp_path_factory.mktemp("clips"), count=30),
    }
    store = FeatureStore.open(home.store, create=True)
    for system in SYSTEMS.values():
        for feature in system.features:
            build(open_corpus(system.dataset, roots[system.dataset]), NAMED[feature], store, workers=0)
    return home


@pytest.fixture(scope="module")
def ray_on_two_cores() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Sweeps:
    """Every system's sweep, run when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events: dict[str, list[Event]] = {}
        self._outcomes: dict[str, SweepOutcome] = {}

    def __getitem__(self, name: str) -> SweepOutcome:
        if name not in self._outcomes:
            told = self.events.setdefault(name, [])
            self._outcomes[name] = run_sweep(SYSTEMS[name].load(), self.settings, told.append)
        return self._outcomes[name]


@pytest.fixture(scope="module")
def sweeps(settings: Settings, ray_on_two_cores: None) -> Sweeps:
    return Sweeps(settings)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_shipped_space_searches_promotes_and_registers(name: str, sweeps: Sweeps) -> None:
    outcome, system = sweeps[name], SYSTEMS[name]
    assert outcome.metric == CORPORA[system.dataset].metrics.get(system.task, "icbhi4"), "the task's own"
    assert [trial.state for trial in outcome.trials] == ["COMPLETE"] * system.trials
    assert all(len(finalist.results) == 2 for finalist in outcome.finalists)
    told = [event for event in sweeps.events[name] if not isinstance(event, FoldDone | TrialEnded)]
    assert outcome.finalists[0].registered is not None, told


def test_one_registry_one_night_and_one_board_hold_all_of_them(
    settings: Settings, sweeps: Sweeps, tmp_path: Path
) -> None:
    finalists = {name: sweeps[name].finalists for name in SYSTEMS}
    registry = Registry.open(settings)
    models = {f"{system.dataset}-{system.task}" for system in SYSTEMS.values()}
    assert {version.name for version in registry.versions()} == models
    assert all(registry.champion(model) for model in models)

    run_night(settings, tmp_path / "site")
    night = latest(ResultStore.open(settings.results).storage)
    assert night is not None and len(night.checked) == len(SYSTEMS)
    assert [name for name, checked in night.checked.items() if not checked.passed] == []

    boards = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["boards"]
    ranked = {
        (board["data"]["dataset"], board["data"]["split"], entry["model"]["family"])
        for board in boards
        for table in board["tables"]
        for entry in table["entries"]
        if entry["rank"] is not None
    }
    for name, system in SYSTEMS.items():
        assert {(system.dataset, system.split, one.config.model.name) for one in finalists[name]} <= ranked
