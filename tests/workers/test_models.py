"""Models against what their sources say of them: counts, shapes, and what each output has seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm2d
from workers.config.models import ModelConfig
from workers.models import build_model
from workers.models.classifier import SoundClassifier

PUBLISHED = (798, 128)  # frames and bins of Patch-Mix
TINY_AST = {"name": "ast", "size": "tiny", "depth": 2}
SMALL = [
    {"name": "cnn6"},
    {"name": "cnn10"},
    {"name": "mn", "width": 0.4},
    {"name": "crnn", "hidden": 8},
    {"name": "crnn", "hidden": 8, "bidirectional": False},
    TINY_AST,
    {**TINY_AST, "name": "ssast"},
    {**TINY_AST, "name": "ssast", "pool": "cls"},
    {"name": "resnet10"},
    {"name": "efficientnet_b0"},
]
IDS = ["cnn6", "cnn10", "mn", "crnn", "crnn forward", "ast", "ssast", "ssast cls", "resnet", "efficientnet"]


def make(config: dict[str, Any], shape: tuple[int, int] = (61, 37), classes: int = 4) -> SoundClassifier:
    torch.manual_seed(0)
    parsed: Any = TypeAdapter(ModelConfig).validate_python(config)
    return build_model(parsed, shape, classes).eval()


def settled(model: SoundClassifier, x: Tensor) -> SoundClassifier:
    """The model with batch norms that know `x`: as they start, deep ones would let next to nothing through."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(x)
    return model.eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- what the sources say ---


@pytest.mark.spec("M6")
@pytest.mark.parametrize(("name", "expected"), [("cnn6", 4_304_320), ("cnn10", 4_686_144), ("cnn14", 75_477_312)])
def test_panns_trunks_have_the_published_size(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(make({"name": name}, PUBLISHED).backbone) == expected


def shapes_on_the_way(name: str, blocks: int, shape: tuple[int, int]) -> list[tuple[int, ...]]:
    """Channels, frames and bins after each block, and the width of the feature."""
    with torch.device("meta"):
        model = make({"name": name}, shape)
        seen: list[tuple[int, ...]] = []
        for number in range(1, blocks + 1):
            block = model.backbone.get_submodule(f"conv_block{number}")
            block.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
        features = model.features(torch.randn(1, 1, *shape))
    return [*seen, tuple(features.shape[1:])]


@pytest.mark.spec("M6")
def test_cnn6_shapes_on_the_way() -> None:
    seen = shapes_on_the_way("cnn6", 4, PUBLISHED)
    assert seen == [(64, 399, 64), (128, 199, 32), (256, 99, 16), (512, 49, 8), (512,)]


@pytest.mark.spec("M6")
def test_the_last_block_of_cnn14_does_not_pool() -> None:
    seen = shapes_on_the_way("cnn14", 6, (1000, 64))
    assert seen[2:] == [(256, 125, 8), (512, 62, 4), (1024, 31, 2), (2048, 31, 2), (2048,)]


@pytest.mark.spec("M6")
def test_cnn14_has_panns_names() -> None:
    with torch.device("meta"):
        state = make({"name": "cnn14"}, PUBLISHED).backbone.state_dict()
    inputs = [1, 64, 128, 256, 512, 1024, 2048]
    shapes = {
        f"conv_block{block}.conv{index}.weight": (inputs[block], inputs[block - (index == 1)], 3, 3)
        for block in range(1, 7)
        for index in (1, 2)
    }
    assert {name: tuple(value.shape) for name, value in state.items() if "conv" in name.split(".")[1]} == shapes
    norms = {f"conv_block{block}.bn{index}" for block in range(1, 7) for index in (1, 2)}
    assert {name.rpartition(".")[0] for name in state if ".bn" in name} == norms


@pytest.mark.slow
@pytest.mark.spec("M6")
def test_cnn14_hears_the_smallest_feature_and_refuses_a_smaller() -> None:
    with torch.inference_mode():
        assert make({"name": "cnn14"}, (32, 40))(torch.randn(1, 1, 32, 40)).isfinite().all()
    with pytest.raises(UserError, match="at least 32 frames and 32 bins"):
        make({"name": "cnn14"}, (31, 40))


def test_crnn_convolutions_leave_seven_steps_of_two_bins() -> None:
    model = make({"name": "crnn"}, (400, 128))
    assert model.backbone.get_submodule("convolutions")(torch.randn(1, 1, 400, 128)).shape == (1, 64, 7, 2)


# --- every model ---


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL, ids=IDS)
@pytest.mark.parametrize("shape", [(61, 37), (48, 64), (33, 101)])
def test_one_row_a_cycle_whatever_the_size(config: dict[str, Any], shape: tuple[int, int]) -> None:
    x = torch.randn(3, 1, *shape)
    model = settled(make(config, shape), x)
    with torch.no_grad():
        features, logits, alone = model.features(x), model(x), model(x[1:2])
    assert features.shape == (3, model.feature_dim)
    assert logits.shape == (3, 4)
    torch.testing.assert_close(alone, logits[1:2], rtol=1e-4, atol=1e-5)  # no cycle sees its neighbours
    torch.testing.assert_close(model.head(features), logits)
    assert not torch.allclose(logits[0], logits[2], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL, ids=IDS)
def test_gradients_reach_every_parameter(config: dict[str, Any]) -> None:
    x = torch.randn(4, 1, 160, 37)  # long enough for the LSTM to take a second step
    model = settled(make(config, (160, 37)), x)  # in eval: a bias before a norm over the batch has no gradient
    logits = model(x)
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL, ids=IDS)
def test_the_seed_makes_the_weights(config: dict[str, Any]) -> None:
    parsed: Any = TypeAdapter(ModelConfig).validate_python(config)
    models = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        models.append(build_model(parsed, (61, 37), 4).state_dict())
    one, same, other = models
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    for part in ("backbone", "head"):
        assert any(not torch.equal(value, other[name]) for name, value in one.items() if name.startswith(part))


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL, ids=IDS)
def test_time_and_frequency_are_told_apart(config: dict[str, Any]) -> None:
    """A square feature and its transpose are different sounds."""
    x = torch.randn(3, 1, 64, 64)
    model = settled(make(config, (64, 64)), x)
    with torch.no_grad():
        assert not torch.allclose(model.features(x), model.features(x.transpose(2, 3)), rtol=0.1)


@pytest.mark.parametrize(
    ("config", "shape"),
    [({"name": "cnn6"}, (15, 128)), ({"name": "cnn10"}, (100, 8)), ({"name": "crnn"}, (6, 128)), (TINY_AST, (98, 12))],
    ids=["cnn6", "cnn10", "crnn", "ast"],
)
def test_too_small_a_feature_is_refused_by_its_size(config: dict[str, Any], shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=rf"\b{shape[0]}\b.* {shape[1]}\b"):
        make(config, shape)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("cnn6", 16), ("cnn10", 16), ("crnn", 7)])
def test_the_smallest_feature_passes_through(name: str, side: int) -> None:
    for shape in ((side, side), (side, 40), (40, side)):
        with torch.inference_mode():
            assert make({"name": name}, shape)(torch.randn(1, 1, *shape)).isfinite().all()
    with pytest.raises(UserError, match=f"at least {side} frames and {side} bins"):
        make({"name": name}, (side - 1, 40))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((400, 128), [(3, 3), (4, 4), (4, 4)]),
        ((80, 80), [(3, 3), (4, 4), (4, 4)]),
        ((249, 64), [(3, 3), (4, 4), (4, 2)]),
    ],
)
def test_pools_of_the_crnn_shrink_only_where_they_would_leave_nothing(
    shape: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    layers = make({"name": "crnn"}, shape).backbone.get_submodule("convolutions").children()
    assert [layer.kernel_size for layer in layers if isinstance(layer, nn.MaxPool2d)] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"name": "resnet10"}, (16, 16)),
        ({"name": "resnet50"}, (16, 16)),
        ({"name": "efficientnet_b0"}, (16, 16)),
        ({"name": "mn", "width": 0.4}, (16, 16)),
        ({"name": "cnn6"}, (16, 16)),
        ({"name": "cnn14"}, (32, 32)),
        ({"name": "crnn", "hidden": 8}, (7, 7)),
        ({"name": "cnn8"}, (4, 4)),
        ({"name": "vgg"}, (2, 2)),
        ({"name": "voice_cnn"}, (40, 13)),
        ({"name": "cycleguardian"}, (20, 11)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_batch_of_one_trains_on_the_smallest_feature(config: dict[str, Any], shape: tuple[int, int]) -> None:
    """The last batch of an epoch may be one cycle, and the last maps one place: then no variance can be had."""
    model = make(config, shape).train()
    x = torch.randn(1, 1, *shape)
    model(x).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())
    assert model.eval()(x).isfinite().all()


def test_one_value_is_normalised_by_the_running_statistics_and_leaves_them() -> None:
    torch.manual_seed(0)
    own, torchs = BatchNorm2d(3), nn.BatchNorm2d(3)
    for batch in (torch.randn(4, 3, 1, 1) * 2 + 1, torch.randn(1, 3, 2, 2)):  # enough values: PyTorch's own
        assert torch.equal(own(batch), torchs(batch))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    one = torch.randn(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torchs(one)
    torch.testing.assert_close(own(one), own.eval()(one))
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


# --- what an output has seen ---


def test_panns_pooling_is_mean_over_mel_then_maximum_plus_mean_over_time() -> None:
    model = make({"name": "cnn6"})
    maps: list[Tensor] = []
    model.backbone.get_submodule("conv_block4").register_forward_hook(lambda _, __, out: maps.append(out))
    with torch.inference_mode():
        features = model.features(torch.randn(2, 1, 61, 37)).numpy()
    over_mel = maps[0].numpy().mean(axis=3)  # [B, 512, time]
    assert features == pytest.approx(over_mel.max(axis=2) + over_mel.mean(axis=2), abs=1e-5)


def test_the_backward_half_of_the_crnn_has_seen_the_whole_cycle() -> None:
    """Frames at the start are put in another order: mean and deviation, by which the input is whitened, stay."""
    model = make({"name": "crnn", "hidden": 16, "layers": 1}, (400, 128))
    sequences: list[Tensor] = []
    model.backbone.get_submodule("lstm").register_forward_hook(lambda _, __, out: sequences.append(out[0]))
    x = torch.randn(1, 1, 400, 128)
    x[:, :, :10] *= 3
    other = x.clone()
    other[:, :, :10] = x[:, :, :10].flip(2)
    with torch.inference_mode():
        change = (model.features(x) - model.features(other)).abs()[0]
    assert change[16:].max() > 1e-3
    at_last_step = (sequences[0] - sequences[1]).abs()[0, -1, 16:]  # the original's feature: one frame seen
    assert at_last_step.max() < 1e-5


def test_whitening_makes_the_crnn_blind_to_loudness() -> None:
    model = make({"name": "crnn"}, (100, 64))
    x = torch.randn(1, 1, 100, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model.features(x), model.features(5 * x - 3), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_dropout_is_only_in_training() -> None:
    for config in ({"name": "cnn6", "dropout": 0.5}, {"name": "crnn"}, {"name": "mn"}, {"name": "efficientnet_b0"}):
        x = torch.randn(2, 1, 61, 37)
        model = settled(make(config), x)
        with torch.inference_mode():
            assert torch.equal(model(x), model(x))
            trained = copy.deepcopy(model)
            for module in trained.modules():  # batch norms as they are: only dropout can tell the two apart
                module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
            assert not torch.equal(trained(x), trained(x))
