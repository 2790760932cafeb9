"""Models and objectives of another package: one of each trains a fold, and a broken one costs itself alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.analysis.labels import describe_model
from orchestrator.leaderboard.board import build_board
from orchestrator.registry.package import dependencies
from tests.support.other_package import installed, write_package
from tests.support.tiny_sweep import tiny_sweep
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.models import build_model
from workers.objectives import build_objective
from workers.results import ResultStore

ENTRY_POINTS = (
    "[lungtune.models]\nfocus = toy_sound.config:Focus\n[lungtune.objectives]\nhinge = toy_sound.config:Hinge\n"
)
CONFIG = """
from collections.abc import Mapping
from typing import Any, Literal
from pydantic import Field, model_validator
from workers.config.models import ModelPart
from workers.config.objectives import ObjectivePart

class Focus(ModelPart):
    label = "Focus"
    module = "toy_sound.network"
    name: Literal["focus"]
    width: int = Field(default=8, ge=1)

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        return f"{cls.label} {settings['width']}"

class Hinge(ObjectivePart):
    label = "Hinge loss"
    module = "toy_sound.losses"
    name: Literal["hinge"]
    margin: float = Field(default=1.0, gt=0)

    def check(self, config):
        if config.model.name == "crnn":
            raise ValueError("objective 'hinge' and a CRNN do not go together")
"""
NETWORK = """
from torch import nn
from workers.models.classifier import SoundClassifier

class Pooled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.convolution = nn.Conv2d(1, width, 3)
    def forward(self, x):
        return self.convolution(x).relu().mean(dim=(2, 3))

def build(config, task):
    head = nn.Linear(config.width, task.classes)
    return SoundClassifier(task.front, Pooled(config.width), head, config.width)
"""
LOSSES = """
from torch.nn import functional as F
from workers.objectives.base import Loss, Objective

class HingeLoss(Objective):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin
    def forward(self, model, x, y, generator):
        logits = model(x)
        loss = F.multi_margin_loss(logits, y, margin=self.margin)
        return Loss(loss, {"hinge": loss.detach()}, logits.detach())

def build(config, feature_dim, class_counts):
    return HingeLoss(config.margin)
"""
FILES = {
    "toy_sound/__init__.py": "",
    "toy_sound/config.py": CONFIG,
    "toy_sound/network.py": NETWORK,
    "toy_sound/losses.py": LOSSES,
}
TOY: dict[str, Any] = tiny_sweep()["base"] | {"model": {"name": "focus"}, "objective": {"name": "hinge", "margin": 0.5}}


def toy(version: str, folder: Path) -> Path:
    return write_package(folder / version, ENTRY_POINTS, FILES, version=version)


def changed(**parts: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(TOY | parts)


def board_of(settings: Settings) -> list[tuple[str, str]]:
    """Models and objectives on the board, none of them refused."""
    built = build_board(ResultStore.open(settings.results), resamples=200)
    assert built.problems == []
    tables = [table for board in built.boards for table in board.tables if table.protocol == "last"]
    return [(one.model.label, one.objective.label) for t in tables for one in (*t.entries, *t.incomplete)]


@pytest.mark.slow
def test_a_model_and_an_objective_of_another_package_train_a_fold(settings: Settings, tmp_path: Path) -> None:
    with installed(toy("1.0", tmp_path)):
        config = changed()
        result = run_fold(FoldRun(config, "official", 0, 0), Site.of(settings))
        assert result.model["parameters"] == 8 * 9 + 8 + 8 * 4 + 4
        assert set(result.epochs[0]["parts"]) == {"hinge"}
        assert result.model["packages"] == {"model": "toy-package 1.0", "objective": "toy-package 1.0"}
        assert result.key.config_hash == config.config_hash
        assert ExperimentConfig.parse(result.config) == config
        assert board_of(settings) == [("Focus 8", "Hinge loss")]
        assert str(dependencies(config)[-1]) == "toy-package==1.0"
    with installed(toy("1.1", tmp_path)):
        assert changed().config_hash != result.key.config_hash, "other code may give other numbers"
        assert board_of(settings) == [("Focus 8", "Hinge loss")], "the result says which version it is of"
    assert board_of(settings) == [("focus", "hinge")], "the result stays where its package is gone"
    with pytest.raises(UserError, match="no installed package offers 'focus'"):
        _ = config.config_hash


@pytest.mark.slow
def test_the_result_of_a_package_is_checked_against_its_name(settings: Settings, tmp_path: Path) -> None:
    with installed(toy("1.0", tmp_path)):
        result = run_fold(FoldRun(changed(), "official", 0, 0), Site.of(settings))
        (path,) = Path(settings.results).rglob("result.json")
        path.write_text(path.read_text().replace('"margin": 0.5', '"margin": 0.7'))
        (problem,) = build_board(ResultStore.open(settings.results), resamples=200).problems
        assert problem.result == result.hash and "not the one that it is named by" in problem.what


def test_only_the_version_of_a_package_that_a_config_uses_counts(tmp_path: Path) -> None:
    own = changed(model={"name": "cnn6"}, objective={"name": "ce"})
    with installed(toy("1.0", tmp_path)):
        again = changed(model={"name": "cnn6"}, objective={"name": "ce"})
        assert again.config_hash == own.config_hash and again.packages == {}
        assert changed(model={"name": "cnn6"}).packages == {"objective": "toy-package 1.0"}
        assert changed(objective={"name": "ce"}).content()["packages"] == {"model": "toy-package 1.0"}
        assert changed(model={"name": "focus", "width": 9}).config_hash != changed().config_hash


@pytest.mark.slow
def test_its_settings_are_checked_as_lungtunes_own(tmp_path: Path) -> None:
    with installed(toy("1.0", tmp_path)):
        with pytest.raises(UserError, match=r"unknown key 'model.widht' \(did you mean 'width'\?"):
            changed(model={"name": "focus", "widht": 9})
        with pytest.raises(UserError, match=r"'model.width' = 0: .* greater than or equal to 1"):
            changed(model={"name": "focus", "width": 0})
        with pytest.raises(UserError, match="'focus'; did you mean 'focus'"):
            changed(model={"name": "focsu"})
        with pytest.raises(UserError, match="'hinge'; did you mean 'hinge'"):
            changed(objective={"name": "hing"})
        with pytest.raises(UserError, match="objective 'hinge' and a CRNN do not go together"):
            changed(model={"name": "crnn"})
        with pytest.raises(UserError, match=r"feature 'hybrid' has 3 maps, and model 'focus' takes one"):
            changed(feature="hybrid")
        with pytest.raises(UserError, match="mixes patch tokens, which model 'focus' does not have"):
            changed(objective={"name": "patchmix"})
    with pytest.raises(UserError, match=r"'model' needs a 'name' out of 'cnn6', .*'voice_cnn'$"):
        changed(model={"name": "zzz"}, objective={"name": "ce"})


BROKEN = {
    "fails_when_imported": ("1 / 0", "cannot be loaded: ZeroDivisionError"),
    "leaves": ("raise SystemExit(3)", "cannot be loaded: SystemExit"),
    "another_name": (
        "class C(ModelPart):\n    label = module = 'x'\n    name: Literal['other']",
        "no setting name: Lit",
    ),
    "no_base": ("class C: pass", "is not a subclass of workers.config.models.ModelPart"),
    "no_class": ("C = 3", "is not a subclass of workers.config.models.ModelPart"),
    "nothing": ("", "cannot be loaded: AttributeError"),
    "no_label": ("class C(ModelPart):\n    module = 'x'\n    name: Literal['bad']", "no class attribute label"),
    "no_module": ("class C(ModelPart):\n    label = 'x'\n    name: Literal['bad']", "no class attribute module"),
    "wrong_kind": (
        "class C(ModelPart):\n    label = module = 'x'\n    takes = frozenset({'token'})\n    name: Literal['bad']",
        r"C takes 'token' \(did you mean 'tokens'\?",
    ),
    "text_as_kinds": (
        "class C(ModelPart):\n    label = module = 'x'\n    takes = 'tokens'\n    name: Literal['bad']",
        "takes of C is no frozenset",
    ),
    "taken_name": (
        "class C(ModelPart):\n    label = module = 'x'\n    name: Literal['bad', 'cnn6']",
        "takes the name 'cnn6', which is lungtune's own",
    ),
}
HEAD = "from typing import Literal\nfrom workers.config.models import ModelPart\n"


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_class_is_named_and_refused_only_where_it_is_asked_for(case: str, tmp_path: Path) -> None:
    code, said = BROKEN[case]
    module = f"bad_{case}"
    folder = write_package(tmp_path, f"[lungtune.models]\nbad = {module}:C\n", {f"{module}.py": HEAD + code})
    with installed(folder):
        with pytest.raises(UserError, match=said) as caught:
            changed(model={"name": "bad"}, objective={"name": "ce"})
        assert caught.value.where == f"entry point bad = {module}:C" and caught.value.hint
        assert changed(model={"name": "cnn6"}, objective={"name": "ce"}).packages == {}


def test_two_packages_of_one_name_and_one_without_a_version_are_refused(tmp_path: Path) -> None:
    one = toy("1.0", tmp_path)
    other = write_package(tmp_path / "other", ENTRY_POINTS, {}, name="rival", version="2.0")
    with installed(one, other), pytest.raises(UserError, match=r"two packages offer 'focus': .*rival 2.0") as caught:
        changed()
    assert "toy-package 1.0" in caught.value.what
    nameless = write_package(tmp_path / "nameless", ENTRY_POINTS, FILES, version=None)
    with installed(nameless), pytest.raises(UserError, match="its package has no name and version"):
        changed()


VALIDATOR = """label = "Hinge loss"
    @model_validator(mode="after")
    def _sound(self): return {}["depth"]
"""
FAULTS = {
    "no_build": ("", r"failed while toy_sound\.\w+ built it: AttributeError: .* no attribute 'build'"),
    "no_import": ("import a_package_that_is_not_there", r"failed while toy_sound\.\w+ built it: ModuleNotFoundError"),
    "leaves": ("raise SystemExit(3)", r"failed while toy_sound\.\w+ built it: SystemExit"),
    "fails": ("def build(*arguments):\n    return {}[0]", r"failed while toy_sound\.\w+ built it: KeyError: 0"),
    "other": ("def build(*arguments):\n    return 3", r"build of toy_sound\.\w+ returns int, not workers\."),
    "refuses": (
        "from feature_store.errors import UserError\ndef build(*arguments):\n    raise UserError('too small')",
        "^too small$",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_a_module_names_the_package(case: str, tmp_path: Path) -> None:
    code, said = FAULTS[case]
    files = FILES | {"toy_sound/network.py": code, "toy_sound/losses.py": code}
    with installed(write_package(tmp_path, ENTRY_POINTS, files)):
        config = changed()
        with pytest.raises(UserError, match=said) as model:
            build_model(config.model, config.feature.shape, 4)
        with pytest.raises(UserError, match=said) as objective:
            build_objective(config.objective, 8, np.ones(4))
    if case != "refuses":
        assert model.value.where == "entry point focus = toy_sound.config:Focus (toy-package 1.0)"
        assert objective.value.where == "entry point hinge = toy_sound.config:Hinge (toy-package 1.0)"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("if config.model.name ==", "if config.no_such_part ==", "failed while it checked a config: AttributeError"),
        ('label = "Hinge loss"', VALIDATOR, "failed while its settings were validated: KeyError: 'depth'"),
    ],
)
def test_a_fault_of_a_class_names_the_package(old: str, new: str, said: str, tmp_path: Path) -> None:
    files = FILES | {"toy_sound/config.py": CONFIG.replace(old, new)}
    with installed(write_package(tmp_path, ENTRY_POINTS, files)), pytest.raises(UserError, match=said) as caught:
        changed()
    assert caught.value.where == "entry point hinge = toy_sound.config:Hinge (toy-package 1.0)"


def test_a_table_is_not_lost_for_a_label(tmp_path: Path) -> None:
    files = FILES | {"toy_sound/config.py": CONFIG.replace("settings['width']", "settings['depth']")}
    with installed(write_package(tmp_path, ENTRY_POINTS, files)):
        assert describe_model(changed().model_dump(), 1).label == "focus"


def test_a_class_that_no_entry_point_offers_is_no_model(tmp_path: Path) -> None:
    with installed(toy("1.0", tmp_path)):
        focus = changed().model

        class Own(type(focus)):  # type: ignore[misc]
            pass

        with pytest.raises(UserError, match="Own is not the class that is found by the name 'focus'"):
            changed(model=Own(name="focus"))
        assert changed(model=focus).model is focus


@pytest.mark.slow
def test_the_command_trains_with_them_and_refuses_a_broken_one(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TOY))
    code, _, told = run("train", tmp_path / "config.yaml", "--seed", "0")
    assert code == 2 and "'model' needs a 'name' out of" in told
    with installed(toy("1.0", tmp_path)):
        code, out, told = run("train", tmp_path / "config.yaml", "--seed", "0", "--json")
        assert code == 0 and '"runs"' in out, told
    broken = write_package(tmp_path / "broken", ENTRY_POINTS, FILES | {"toy_sound/config.py": "1 / 0"})
    with installed(broken):
        code, _, told = run("train", tmp_path / "config.yaml", "--seed", "0")
        assert code == 2 and "entry point focus = toy_sound.config:Focus: cannot be loaded: ZeroDiv" in told
        assert "Traceback" not in told


def test_weights_of_lungtune_start_a_model_of_a_package(tmp_path: Path) -> None:
    with installed(toy("1.0", tmp_path)):
        config = changed(feature="fbank-small")
        first = build_model(config.model, config.feature.shape, 4)
        torch.save(first.state_dict(), tmp_path / "weights.pt")
        second = build_model(config.model, config.feature.shape, 2, tmp_path / "weights.pt")
        assert torch.equal(second.backbone.convolution.weight, first.backbone.convolution.weight)
        assert second.load_report is not None and not second.load_report.missing
