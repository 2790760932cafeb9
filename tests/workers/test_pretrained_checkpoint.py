"""Whole trained models: lungtune's own files, and checkpoints as Patch-Mix writes them."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

from feature_store.errors import UserError
from tests.support.pretrained_files import deit_state, saved, tiny_ast
from workers.config.models import ModelConfig
from workers.models import build_model
from workers.models.checkpoint import load_checkpoint
from workers.models.classifier import SoundClassifier

pytestmark = pytest.mark.slow

SHAPE = (98, 64)
TINY_AST = {"name": "ast", "size": "tiny", "depth": 2}
TINY_SSAST = {"name": "ssast", "size": "tiny", "depth": 2}
STANDARD = {"name": "crnn", "hidden": 8, "standardize": "train", "resize": 0.5}


def make(config: dict[str, Any], seed: int = 0, classes: int = 4, shape: tuple[int, int] = SHAPE) -> SoundClassifier:
    torch.manual_seed(seed)
    parsed: Any = TypeAdapter(ModelConfig).validate_python(config)
    return build_model(parsed, shape, classes).eval()


def patch_mix_file(model: SoundClassifier, path: Path, prefix: str = "") -> Path:
    """A checkpoint with Patch-Mix' names and parts, made from a model of ours."""
    trunk = dict(model.backbone.state_dict())
    if "pos_embed" in trunk:
        trunk = {f"v.{name}".replace("patch_embed.", "patch_embed.proj."): value for name, value in trunk.items()}
        trunk |= {f"v.{n}": value for n, value in deit_state().items() if n.startswith("head")}
        trunk |= {f"mlp_head.{name}": torch.randn_like(value) for name, value in model.head.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 1, *SHAPE)).sum().backward()
    optimizer.step()
    content = {
        "args": argparse.Namespace(seed=1, model="ast", lr_decay_epochs=[120, 160], eval=False, tag="", resume=None),
        "model": {prefix + name: value for name, value in trunk.items()},
        "optimizer": optimizer.state_dict(),
        "epoch": 50,
        "classifier": {prefix + name: value for name, value in model.head.state_dict().items()},
    }
    return saved(content, path)


def same_logits(one: SoundClassifier, other: SoundClassifier) -> bool:
    x = torch.randn(3, 1, *SHAPE)
    with torch.inference_mode():
        return torch.equal(one(x), other(x))


@pytest.mark.spec("M18")
@pytest.mark.parametrize("config", [TINY_AST, {"name": "resnet10"}, {"name": "mn", "width": 0.2}, STANDARD], ids=str)
def test_a_model_that_lungtune_saved_gives_the_same_logits(config: dict[str, Any], tmp_path: Path) -> None:
    source = make(config)
    if "standardize" in config:
        source.set_statistics(-3.0, 2.5)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    model = make(config, seed=1)
    assert not same_logits(model, source)
    report = load_checkpoint(model, tmp_path / "model.safetensors")
    assert same_logits(model, source)
    assert set(report.used) == set(source.state_dict())
    assert report.adapted == report.missing == report.left_over == []


@pytest.mark.spec("M18")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "config",
    [TINY_AST, TINY_SSAST, {"name": "cnn6"}, {"name": "resnet10"}, {"name": "efficientnet_b0"}],
    ids=lambda config: config["name"],
)
def test_a_checkpoint_of_patch_mix_gives_the_same_logits(config: dict[str, Any], prefix: str, tmp_path: Path) -> None:
    """Its command line is a class in the pickle, which torch refuses by default."""
    source = make(config)
    file = patch_mix_file(source, tmp_path / "best.pth", prefix)
    with pytest.raises(Exception, match="Namespace"):
        torch.load(file, weights_only=True)
    model = make(config, seed=1)
    assert not same_logits(model, source)
    report = load_checkpoint(model, file)
    assert same_logits(model, source)
    assert set(report.used) == set(model.state_dict()) and report.adapted == report.missing == []
    unused = {"mlp_head", "head", "head_dist"} if "size" in config else set()
    assert {name.split(".")[0] for name in report.left_over} == unused


@pytest.mark.spec("M3")
@pytest.mark.parametrize("layout", ["correct", "seed_compat"])
def test_a_trained_table_is_taken_as_it_is_in_either_layout(layout: str, tmp_path: Path) -> None:
    source = make(TINY_AST)
    model = make({**TINY_AST, "pos_embed_layout": layout}, seed=1)
    load_checkpoint(model, patch_mix_file(source, tmp_path / "best.pth"))
    assert torch.equal(model.backbone.state_dict()["pos_embed"], source.backbone.state_dict()["pos_embed"])


@pytest.mark.spec("M18")
def test_a_checkpoint_of_patch_mix_can_also_start_a_training(tmp_path: Path) -> None:
    source = make(TINY_AST)
    file = patch_mix_file(source, tmp_path / "best.pth")
    config: Any = TypeAdapter(ModelConfig).validate_python(TINY_AST)
    model = build_model(config, SHAPE, 2, file)
    own = model.backbone.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in source.backbone.state_dict().items())


# --- refused ---


def refusal(model: SoundClassifier, path: Path) -> str:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError) as error:
        load_checkpoint(model, path)
    assert path.name in str(error.value.where) and error.value.hint
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(error.value)


def own_file(model: SoundClassifier, path: Path, **changes: Tensor) -> Path:
    save_file({**model.state_dict(), **changes}, path)
    return path


@pytest.mark.spec("M18")
@pytest.mark.parametrize("writer", ["lungtune", "Patch-Mix"])
@pytest.mark.parametrize("config", [TINY_AST, {"name": "cnn6"}], ids=["ast", "cnn6"])
def test_another_number_of_classes_is_told_in_words(config: dict[str, Any], writer: str, tmp_path: Path) -> None:
    source = make(config, classes=2)
    file = tmp_path / ("model.safetensors" if writer == "lungtune" else "best.pth")
    (own_file if writer == "lungtune" else patch_mix_file)(source, file)
    assert "is a model of 2 classes, the task has 4" in refusal(make(config), file)


@pytest.mark.spec("M18")
def test_another_shape_is_refused(tmp_path: Path) -> None:
    file = patch_mix_file(make(TINY_AST), tmp_path / "best.pth")
    assert "'backbone.pos_embed' has shape [1, 47, 192]" in refusal(make(TINY_AST, shape=(128, 64)), file)
    assert "[1, 1, 192]" in refusal(make({**TINY_AST, "size": "small"}), file)


@pytest.mark.spec("M18")
def test_another_model_is_refused(tmp_path: Path) -> None:
    file = patch_mix_file(make({"name": "cnn6"}), tmp_path / "best.pth")
    assert "backbone.conv1.weight" in refusal(make({"name": "resnet10"}), file)
    assert "lacks" in refusal(make(TINY_AST), file)
    assert "lacks" in refusal(make({"name": "cnn6"}), patch_mix_file(make(TINY_AST), tmp_path / "ast.pth"))


@pytest.mark.spec("M18")
def test_a_deeper_model_is_refused(tmp_path: Path) -> None:
    file = patch_mix_file(make({**TINY_AST, "depth": 3}), tmp_path / "best.pth")
    assert "no place for" in refusal(make(TINY_AST), file)


@pytest.mark.spec("F5")
def test_statistics_that_the_config_does_not_know_are_refused(tmp_path: Path) -> None:
    plain = {name: value for name, value in STANDARD.items() if name != "standardize"}
    assert "front.mean" in refusal(make(plain), own_file(make(STANDARD), tmp_path / "model.safetensors"))
    assert "front.mean" in refusal(make(STANDARD), own_file(make(plain), tmp_path / "plain.safetensors"))


@pytest.mark.spec("M18")
def test_a_backbone_alone_is_no_whole_model(tmp_path: Path) -> None:
    assert "model.pretrained" in refusal(tiny_ast(), saved(deit_state(), tmp_path / "deit.pth"))


class Other:
    """A class that nobody has allowed."""


@pytest.mark.spec("M18")
def test_any_class_but_the_command_line_is_refused(tmp_path: Path) -> None:
    content = {"model": {"w": torch.zeros(1)}, "classifier": {"w": torch.zeros(1)}, "args": Other()}
    assert "could run code" in refusal(tiny_ast(), saved(content, tmp_path / "best.pth"))
    content["args"] = argparse.Namespace(inner=nn.Linear(1, 1))
    assert "could run code" in refusal(tiny_ast(), saved(content, tmp_path / "best.pth"))


@pytest.mark.spec("M18")
@pytest.mark.parametrize("kept", [0.1, 0.9])
def test_a_truncated_checkpoint_is_called_damaged(kept: float, tmp_path: Path) -> None:
    file = patch_mix_file(make(TINY_AST), tmp_path / "best.pth")
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    assert "damaged" in refusal(make(TINY_AST), file)


@pytest.mark.spec("M18")
def test_a_head_with_values_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    source = make(TINY_AST)
    with torch.no_grad():
        source.head.get_submodule("1").bias[0] = torch.nan  # type: ignore[index,operator]
    assert "1.bias" in refusal(make(TINY_AST), patch_mix_file(source, tmp_path / "best.pth"))
