"""A pruning rule and a sampler of another package: they search as lungtune's own do, and a broken one costs itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from optuna.trial import TrialState

from benchmarks.pruning_replay import replay
from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.execution.backends import SimulatedBackend
from orchestrator.pruning import build_rule
from orchestrator.studies.study import Study, TrialSummary
from orchestrator.sweep.run import run_sweep
from search_spaces.pruners import PRUNERS
from search_spaces.samplers import SAMPLERS
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from tests.support.other_package import installed, write_package
from tests.support.tiny_sweep import tiny_sweep

ENTRY_POINTS = (
    "[lungtune.pruners]\nfloor = toy_search.settings:Floor\n[lungtune.samplers]\nsame = toy_search.settings:Same\n"
)
SETTINGS = """
from typing import Literal
from pydantic import Field
from search_spaces.pruners import RulePart
from search_spaces.samplers import SamplerPart

class Floor(RulePart):
    label = "Floor"
    module = "toy_search.floor"
    name: Literal["floor"]
    least: float = Field(default=30.0, ge=0, le=100)

class Same(SamplerPart):
    label = "Same"
    module = "toy_search.same"
    name: Literal["same"]
    draw: int = Field(default=1, ge=0)
"""
FLOOR = """
from orchestrator.pruning import Rule

class FloorRule(Rule):
    def judge(self, values, past):
        return values.mean() < self.settings.least

    def warnings(self, fold_runs, trials):
        if self.settings.least == 0:
            return ["pruner floor is inert: no mean lies below 0"]
        return super().warnings(fold_runs, trials)

def build(settings):
    return FloorRule(settings)
"""
SAME = """
import optuna

def build(settings, search, asked):
    return optuna.samplers.RandomSampler(seed=settings.draw)
"""
FILES = {
    "toy_search/__init__.py": "",
    "toy_search/settings.py": SETTINGS,
    "toy_search/floor.py": FLOOR,
    "toy_search/same.py": SAME,
}
PRUNER = {"name": "floor", "least": 40, "after_folds": 1, "startup_trials": 1}


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@contextmanager
def toy(folder: Path, changed: Mapping[str, str] | None = None) -> Iterator[None]:
    """The package, with some of its files changed."""
    with pytest.MonkeyPatch.context() as patch:
        for classes in (PRUNERS, SAMPLERS):
            patch.setattr(classes, "_outside", {})
        with installed(write_package(folder, ENTRY_POINTS, {**FILES, **(changed or {})})):
            yield


def space(pruner: Mapping[str, Any] = PRUNER, **search: Any) -> SearchSpace:
    return SearchSpace.parse(tiny_sweep(search={"pruner": pruner, "sampler": "random", **search}))


def test_a_rule_of_another_package_stops_trials(tmp_path: Path) -> None:
    with toy(tmp_path / "packages"):
        rule = build_rule(space().search.pruner)
        assert rule is not None
        assert replay(np.array([[50.0, 50.0], [30.0, 90.0], [45.0, 30.0]]), rule).fold_runs == 5
        study = Study(space(), Settings.load(tmp_path), 3)
        first, second, third = study.ask(), study.ask(), study.ask()
        assert not study.report(first.number, 30.0, 1), "no trial is complete"
        study.tell(first.number, 30.0)
        assert study.report(second.number, 39.0, 1) and not study.report(third.number, 41.0, 1)
        study.tell(second.number, 39.0, pruned=True)
        assert TrialSummary.of(study.trial(second.number)).state == TrialState.PRUNED.name


def test_a_sampler_of_another_package_draws_the_trials(tmp_path: Path) -> None:
    def drawn(draw: int) -> list[float]:
        content = space(sampler={"name": "same", "draw": draw}, seed=draw)
        study = Study(content, Settings.load(tmp_path / str(draw)), 3)
        return [study.ask().config.optim.lr for _ in range(2)]

    with toy(tmp_path / "packages"):
        once, again, other = drawn(1), drawn(1), drawn(2)
    assert once[0] == once[1] == again[0] and other[0] != once[0], "each ask begins with the sampler's own seed"


def test_its_settings_are_part_of_the_study_and_checked(tmp_path: Path) -> None:
    with toy(tmp_path):
        names = {space(PRUNER | change).study_name for change in ({}, {"least": 41}, {"least": 40.0})}
        names |= {
            space(sampler=sampler).study_name for sampler in ("same", {"name": "same"}, {"name": "same", "draw": 2})
        }
        assert len(names) == 4
        assert space(sampler={"name": "same", "draw": 2}).search.model_dump(mode="json")["sampler"] == {
            "name": "same", "draw": 2,
        }  # fmt: skip
        with pytest.raises(UserError, match=r"unknown key 'search.pruner.leats' \(did you mean 'least'\?"):
            space(PRUNER | {"leats": 3})
        with pytest.raises(UserError, match=r"'share' is a setting of racing and not of floor \(known: .*least"):
            space(PRUNER | {"share": 0.5})
        with pytest.raises(UserError, match="'floor'; did you mean 'floor'"):
            space({"name": "flor"})
    with pytest.raises(UserError, match=r"'search.pruner' needs a 'name' out of 'none', .*'racing'$"):
        space()


BROKEN = {
    "fails_when_imported": ({"toy_search/settings.py": "1 / 0"}, "cannot be loaded: ZeroDivisionError"),
    "no_rule": (
        {
            "toy_search/settings.py": SETTINGS.replace("Floor(RulePart)", "Floor(PrunerPart)").replace(
                "RulePart", "PrunerPart"
            )
        },
        "Floor is not a subclass of search_spaces.pruners.RulePart",
    ),
    "no_settings": ({"toy_search/settings.py": SETTINGS.replace("Floor(RulePart)", "Floor")}, "is not a subclass of"),
    "other_name": ({"toy_search/settings.py": SETTINGS.replace('"floor"', '"ceiling"')}, "no setting name: Literal"),
    "no_module": ({"toy_search/floor.py": "import no_such_module"}, "toy_search.floor built it: ModuleNotFoundError"),
    "no_build": ({"toy_search/floor.py": ""}, "toy_search.floor built it: AttributeError"),
    "build_fails": (
        {"toy_search/floor.py": "def build(settings):\n    return [][0]"},
        "toy_search.floor built it: IndexError",
    ),
    "no_such_rule": ({"toy_search/floor.py": "def build(settings):\n    return 3"}, "orchestrator.pruning.rule.Rule"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_and_refused_only_where_it_is_asked_for(case: str, tmp_path: Path) -> None:
    changed, said = BROKEN[case]
    with toy(tmp_path, changed):
        with pytest.raises(UserError, match=said) as caught:
            build_rule(space().search.pruner)
        assert "toy_search" in str(caught.value.where) and caught.value.hint
        assert build_rule(space({"name": "racing"}).search.pruner) is not None


@pytest.mark.slow
def test_the_plan_says_what_the_rule_warns_of_and_refuses_a_broken_one(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(tiny_sweep(search={"pruner": {"name": "floor", "least": 0}})))
    with toy(tmp_path / "whole"):
        code, _, told = run("plan", str(file))
        assert code == 0 and "pruner floor is inert: no mean lies below 0" in told
    for case in ("fails_when_imported", "no_build"):
        changed, said = BROKEN[case]
        with toy(tmp_path / case, changed):
            code, _, told = run("plan", str(file))
            assert code == 2 and said in " ".join(told.split()) and "Traceback" not in told


@pytest.mark.slow
def test_a_rule_that_fails_in_the_middle_stops_the_sweep_with_its_name(
    cluster: None, settings: Settings, tmp_path: Path
) -> None:
    """The trial that it was asked about goes on to its end; nothing new is begun, and no trial is lost."""
    search = {"trials": 6, "sampler": "random", "pruner": PRUNER}
    content = tiny_sweep(evaluation={"split": "official-inner3"}, search=search, resources={"concurrent_trials": 1})
    failing = FLOOR.replace("return values.mean() < self.settings.least", "return [][len(past.whole)]")
    said = r"Floor \(toy-package 1.0\): failed while it judged trial 1 after fold 1: IndexError"
    with toy(tmp_path / "failing", {"toy_search/floor.py": failing}), pytest.raises(UserError, match=said):
        run_sweep(SearchSpace.parse(content), settings, backend=SimulatedBackend())
    with toy(tmp_path / "whole"):
        outcome = run_sweep(SearchSpace.parse(content), settings, backend=SimulatedBackend())
    assert len(outcome.trials) == 6 and outcome.trials[1].fold_runs == 3
    assert {trial.state for trial in outcome.trials} <= {"COMPLETE", "PRUNED"}
