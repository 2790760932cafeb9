"""ResNets and EfficientNets with one input channel, against Patch-Mix' counts and torchvision's own networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from pydantic import TypeAdapter
from torch import nn

from workers.config.models import ModelConfig
from workers.models import build_model
from workers.models.classifier import SoundClassifier

LAYERS = (nn.Conv2d, nn.BatchNorm2d)
SIZES = {
    "resnet10": (4_899_520, 512),
    "resnet18": (11_170_240, 512),
    "resnet34": (21_278_400, 512),
    "resnet50": (23_501_760, 2048),
    "resnet101": (42_493_888, 2048),
    "efficientnet_b0": (4_006_972, 1280),
    "efficientnet_b1": (6_512_608, 1280),
    "efficientnet_b2": (7_700_418, 1408),
}


def make(name: str, shape: tuple[int, int] = (798, 128)) -> SoundClassifier:
    config: Any = TypeAdapter(ModelConfig).validate_python({"name": name})
    return build_model(config, shape, 4)


@pytest.mark.slow
@pytest.mark.spec("M7", "M8")
@pytest.mark.parametrize("name", SIZES)
def test_trunks_have_the_published_size_and_width(name: str) -> None:
    expected, width = SIZES[name]
    with torch.device("meta"):
        model = make(name)
        assert sum(parameter.numel() for parameter in model.backbone.parameters()) == expected
        assert model.feature_dim == width
        assert model.features(torch.zeros(2, 1, 798, 128)).shape == (2, width)
        assert model(torch.zeros(2, 1, 798, 128)).shape == (2, 4)


@pytest.mark.slow
@pytest.mark.spec("M7", "M8")
@pytest.mark.parametrize("name", [name for name in SIZES if name != "resnet10"])
def test_names_are_torchvision_s_without_the_classifier(name: str) -> None:
    with torch.device("meta"):
        own = {key: value.shape for key, value in make(name).backbone.state_dict().items()}
        colour = {key: value.shape for key, value in getattr(torchvision.models, name)().state_dict().items()}
    published = {key: shape for key, shape in colour.items() if not key.startswith(("fc.", "classifier."))}
    assert own.keys() == published.keys()
    assert [key for key, shape in own.items() if shape != published[key]] == [next(iter(own))]  # the stem


@pytest.mark.slow
@pytest.mark.spec("M17")
def test_respirenet_s_trunk_has_its_layers_and_a_device_s_fine_tuning_trains_them_all() -> None:
    """Blocks as in He et al. 2016, table 1. RespireNet's second stage freezes nothing: its call is commented out."""
    with torch.device("meta"):
        published = torchvision.models.resnet34()
    torch.manual_seed(0)
    model = make("resnet34", (64, 64))
    own = dict(model.backbone.named_modules())
    kinds = {name: type(module).__name__ for name, module in published.named_modules() if isinstance(module, LAYERS)}
    assert {name: type(module).__name__ for name, module in own.items() if isinstance(module, LAYERS)} == kinds
    blocks = [len(own[f"layer{stage}"]) for stage in (1, 2, 3, 4)]  # type: ignore[arg-type]
    assert blocks == [3, 4, 6, 3] and sum(2 * count for count in blocks) + 2 == 34
    assert sum(p.numel() for p in model.backbone.parameters()) == 21_284_672 - 64 * 2 * 7 * 7  # two colours fewer
    nn.functional.cross_entropy(model(torch.randn(4, 1, 64, 64)), torch.arange(4)).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert still == []


@pytest.mark.slow
@pytest.mark.spec("M7", "M8")
@pytest.mark.parametrize(
    ("name", "stem"), [("resnet18", (64, 1, 7, 7)), ("efficientnet_b1", (32, 1, 3, 3))], ids=["resnet", "efficientnet"]
)
def test_the_stem_has_one_channel_and_halves_both_axes(name: str, stem: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = make(name)
        first = next(module for module in model.backbone.modules() if isinstance(module, nn.Conv2d))
        assert first.weight.shape == stem and first.bias is None
        assert first(torch.zeros(1, 1, 798, 128)).shape[2:] == (399, 64)


@pytest.mark.spec("M7")
def test_a_resnet10_has_one_block_a_stage() -> None:
    with torch.device("meta"):
        backbone = make("resnet10").backbone
    assert [len(list(backbone.get_submodule(f"layer{n}").children())) for n in range(1, 5)] == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.spec("M7", "M8")
@pytest.mark.parametrize("name", ["resnet10", "efficientnet_b0"])
def test_a_step_of_training_moves_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = make(name, (64, 48)).train()
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    nn.functional.cross_entropy(model(torch.randn(8, 1, 64, 48)), torch.arange(8) % 4).backward()
    optimizer.step()
    assert [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])] == []
