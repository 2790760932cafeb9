"""CNN8 and VGG: the published counts and sizes, one logit for two classes, and what scalars do to them (M14, M15)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.config.models import ModelConfig
from workers.inputs import WithScalars, inputs_of
from workers.models import build_model
from workers.models.two_inputs import TwoInputClassifier

SHAPE = (9, 63, 128)
SIZES = {
    "cnn8": [(63, 128, 32), (63, 128, 64), (31, 64, 128), (31, 64, 128), *4 * [(15, 32, 256)]],
    "vgg": [
        *2 * [(63, 128, 64)], (32, 64, 64), *3 * [(32, 64, 128)], *3 * [(16, 32, 256)], *3 * [(8, 16, 512)],
    ],
}  # fmt: skip


def model_of(name: str, shape: tuple[int, ...] = SHAPE, classes: int = 2, scalars: int = 36, **settings: Any):
    torch.manual_seed(0)
    config = TypeAdapter(ModelConfig).validate_python({"name": name, **settings})
    return build_model(config, shape, classes, scalars=scalars).eval()


def batch(count: int = 3, scalars: int = 36, shape: tuple[int, ...] = SHAPE) -> WithScalars:
    rng = torch.Generator().manual_seed(1)
    return WithScalars(torch.randn(count, *shape, generator=rng), torch.randn(count, scalars, generator=rng))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.spec("M14")
@pytest.mark.parametrize(("scalars", "published"), [(36, 2_433_473), (39, 2_433_665)])
def test_cnn8_has_the_published_number_of_parameters(scalars: int, published: int) -> None:
    assert parameters(model_of("cnn8", scalars=scalars)) == published


@pytest.mark.spec("M15")
@pytest.mark.parametrize(("scalars", "published"), [(36, 8_145_985), (39, 8_146_177)])
def test_vgg_has_the_published_number_of_parameters(scalars: int, published: int) -> None:
    assert parameters(model_of("vgg", scalars=scalars)) == published


@pytest.mark.spec("M14", "M15")
@pytest.mark.parametrize("name", SIZES)
def test_maps_shrink_as_published(name: str) -> None:
    model, found = model_of(name), []
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(lambda _, __, out: found.append((*out.shape[2:], out.shape[1])))
    with torch.inference_mode():
        model(batch(1))
    assert found == SIZES[name]


@pytest.mark.spec("M14")
def test_channels_are_dropped_after_the_fourth_convolution_alone() -> None:
    layers = [module for module in model_of("cnn8").backbone.modules() if not list(module.children())]
    (dropped,) = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Dropout2d)]
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers[:dropped]) == 4
    order = zip(layers[:3], (nn.Conv2d, nn.ReLU, nn.BatchNorm2d), strict=True)
    assert all(isinstance(layer, kind) for layer, kind in order)


@pytest.mark.slow
@pytest.mark.spec("M15")
def test_the_last_block_adds_its_input() -> None:
    model = model_of("vgg")
    with torch.inference_mode():
        for module in model.backbone.block4:
            if isinstance(module, nn.BatchNorm2d):
                module.weight.zero_()
        inside = model.backbone.block3(model.backbone.block2(model.backbone.block1(batch(2).values)))
        wanted = model.backbone.residual(inside).mean(dim=(2, 3))
        assert torch.allclose(model.backbone(batch(2).values), wanted, atol=1e-6) and wanted.abs().max() > 0


@pytest.mark.slow
@pytest.mark.spec("L12")
@pytest.mark.parametrize("name", SIZES)
def test_two_classes_are_one_logit_and_their_cross_entropy_its_binary_one(name: str) -> None:
    model = model_of(name)
    with torch.inference_mode():
        logits = model(batch(4))
    assert logits.shape == (4, 2) and (logits[:, 0] == 0).all() and (logits[:, 1] != 0).all()
    soft = torch.tensor([0.0, 1.0, 0.3, 0.85])
    binary = F.binary_cross_entropy_with_logits(logits[:, 1], soft)
    both = F.cross_entropy(logits, torch.stack([1 - soft, soft], dim=1))
    assert both.item() == pytest.approx(binary.item(), rel=1e-5)
    assert model_of(name, classes=4)(batch(2)).shape == (2, 4)


# --- scalars ---


def with_statistics(name: str, **settings: Any) -> TwoInputClassifier:
    model = model_of(name, **settings)
    model.set_scalar_statistics(torch.tensor([[10.0, 5.0], [30.0, 5.0]]))
    return model


@pytest.mark.parametrize("name", SIZES)
def test_scalars_are_standardised_by_the_training_side_and_a_constant_one_is_centred(name: str) -> None:
    model = with_statistics(name, scalars=2, shape=(1, 16, 16))
    assert model.scalar_mean.tolist() == [20.0, 5.0] and model.scalar_std.tolist() == [10.0, 1.0]
    seen: list[Tensor] = []
    assert model.beside is not None
    model.beside.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model(WithScalars(torch.zeros(1, 1, 16, 16), torch.tensor([[40.0, 6.0]])))
    assert seen[0].tolist() == [[2.0, 1.0]]
    assert {"scalar_mean", "scalar_std"} <= model.state_dict().keys(), "kept with the weights"


def test_seed_compat_feeds_scalars_as_they_are() -> None:
    model = with_statistics("cnn8", scalars=2, shape=(1, 16, 16), scalar_scale="seed_compat")
    seen: list[Tensor] = []
    assert model.beside is not None
    model.beside.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model(WithScalars(torch.zeros(1, 1, 16, 16), torch.tensor([[40.0, 6.0]])))
    assert seen[0].tolist() == [[40.0, 6.0]] and "scalar_mean" not in model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_feature_without_scalars_or_with_one_map_is_taken_too(name: str) -> None:
    model = model_of(name, shape=(98, 64), classes=4, scalars=0)
    assert model(inputs_of(torch.randn(2, 98, 64))).shape == (2, 4)
    assert model.beside is None


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_both_inputs_change_the_answer_and_a_single_clip_can_be_trained_on(name: str) -> None:
    model, x = model_of(name), batch(1)
    with torch.inference_mode():
        plain = model(x)
        assert not torch.equal(plain, model(x._replace(values=x.values + 1)))
        assert not torch.equal(plain, model(x._replace(scalars=x.scalars + 1)))
    model.train()
    model(batch(1))[:, 1].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_it_learns_a_tiny_batch(name: str) -> None:
    shape = (2, 16, 16)
    model, x = model_of(name, shape=shape, scalars=3, dropout=0.0).train(), batch(8, 3, shape)
    y = torch.arange(8) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


@pytest.mark.parametrize(("name", "shape"), [("cnn8", (9, 3, 128)), ("vgg", (9, 63, 1))])
def test_a_feature_that_is_too_small_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="the feature has"):
        model_of(name, shape=shape)


# --- which model takes which feature ---


def test_a_model_of_one_map_refuses_nine_and_says_which_take_them() -> None:
    content = {"task": "phase2", "feature": "phase9", "model": {"name": "crnn"}, "objective": {"name": "ce"}}
    with pytest.raises(UserError, match=r"has 9 maps, and model 'crnn' takes one; use model .*cnn8.*vgg"):
        ExperimentConfig.parse(content)
    assert ExperimentConfig.parse({**content, "model": {"name": "cnn8"}}).compat == []


def test_copied_defects_are_switches_that_are_told() -> None:
    config = ExperimentConfig.parse(
        {
            "feature": {"kind": "phase9", "lpc_frames": "seed_compat"},
            "model": {"name": "vgg", "scalar_scale": "seed_compat"},
            "objective": {"name": "cutmix_mixup", "cutmix_scalars": "seed_compat"},
        }
    )
    assert config.compat == ["feature.lpc_frames", "model.scalar_scale", "objective.cutmix_scalars"]
