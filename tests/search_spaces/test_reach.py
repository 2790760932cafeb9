"""Settings of the base that a family or the search overrules are told, with what would have the effect."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from search_spaces.override_warnings import unreached
from search_spaces.schema import SearchSpace
from tests.conftest import Run

FILE = Path(__file__).parents[2] / "search_spaces" / "breathing_phase.yaml"


def test_a_setting_that_a_family_has_of_its_own_is_told_with_one_that_reaches_it() -> None:
    given = ["base.model.resize=0.25", "base.training.batch_size=8", "base.training.epochs=2", "search.trials=3"]
    told = unreached(SearchSpace.load(FILE, given), given)
    assert len(told) == 2 and all("family 'vgg'" in line for line in told), "the batch size reaches both"
    mended = given + [found for line in told for found in re.findall(r"--set (\S+)", line)]
    space = SearchSpace.load(FILE, mended)
    (model,) = {(config.model.resize, config.training.epochs) for config in space.corners("vgg")}
    assert model == (0.25, 2) and unreached(space, mended) == []


def test_a_setting_of_what_is_searched_is_told_with_one_that_fixes_it() -> None:
    given = ["base.optim.lr=1e-3"]
    (told,) = unreached(SearchSpace.load(FILE, given), given)
    space = SearchSpace.load(FILE, shlex.split(told)[-1:])
    assert {config.optim.lr for config in space.corners("cnn8")} == {1e-3}


def test_the_command_warns_before_anything_else(run: Run) -> None:
    code, _, told = run("plan", str(FILE), "--set", "base.model.resize=0.5")
    assert "families.vgg.base.model.resize=0.5" in told
    assert code == 2 and told.index("families.vgg") < told.index("no dataset 'breathing-phase'")
