"""The spectrogram transformers: where its tokens come from, and timm's own transformer as a second implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from timm.models.deit import VisionTransformerDistilled

from feature_store.errors import UserError
from feature_store.features import NAMED
from workers.config import ExperimentConfig
from workers.config.models import AstConfig, ModelConfig
from workers.config.objectives import PatchMixClConfig, PatchMixConfig
from workers.models import build_model
from workers.models.ast import AstClassifier
from workers.objectives import build_objective


def make(shape: tuple[int, int], **changes: Any) -> AstClassifier:
    torch.manual_seed(0)
    config: Any = TypeAdapter(ModelConfig).validate_python({"name": "ast", "size": "tiny", "depth": 2, **changes})
    model = build_model(config, shape, 4).eval()
    assert isinstance(model, AstClassifier)
    return model


def on_meta(**changes: Any) -> AstClassifier:
    """At the published feature, without memory."""
    with torch.device("meta"):
        return make((798, 128), **{"depth": 12, **changes})


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.slow
@pytest.mark.spec("M1")
def test_ast_base_has_the_published_size_grid_and_output() -> None:
    model = on_meta(size="base")
    assert count(model.backbone) == 85_984_512
    assert count(model.head) == 4_612
    assert model.grid == (12, 79)
    x = torch.zeros(2, 1, 798, 128, device="meta")
    assert model.tokens(x).shape == (2, 948, 768)
    assert model.features(x).shape == (2, 768)
    assert model(x).shape == (2, 4)


@pytest.mark.slow
@pytest.mark.spec("M4")
@pytest.mark.parametrize(("size", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)])
@pytest.mark.parametrize("name", ["ast", "ssast"])
def test_the_sizes_are_deit_s(name: str, size: str, width: int, heads: int) -> None:
    """Parameters in closed form: patches, positions, two tokens, blocks (attention, MLP, norms), and a last norm."""
    model = on_meta(name=name, size=size)
    block = 4 * width * (width + 1) + 4 * width * width * 2 + 5 * width + 4 * width
    assert model.feature_dim == width
    assert model.backbone.blocks[0].get_submodule("attn").num_heads == heads
    assert count(model.backbone) == 257 * width + 950 * width + 2 * width + 12 * block + 2 * width


@pytest.mark.slow
@pytest.mark.spec("M5")
@pytest.mark.parametrize(("patch", "grid"), [((16, 16), (12, 79)), ((128, 2), (1, 80)), ((32, 8), (10, 80))])
def test_a_patch_has_any_shape(patch: tuple[int, int], grid: tuple[int, int]) -> None:
    model = on_meta(name="ssast", patch_bins=patch[0], patch_frames=patch[1])
    assert model.grid == grid
    assert model.backbone.patch_embed.weight.shape == (192, 1, *patch)
    assert model(torch.zeros(1, 1, 798, 128, device="meta")).shape == (1, 4)


@pytest.mark.spec("M5")
def test_pooling_of_tokens_and_of_cls_in_the_last_norm_s_outputs() -> None:
    shape, x = (98, 64), torch.randn(2, 1, 98, 64)
    for pool, rows in (("avgtok", slice(2, None)), ("cls", slice(0, 2))):
        model = make(shape, name="ssast", pool=pool)
        inner: list[torch.Tensor] = []
        model.backbone.blocks[-1].register_forward_hook(lambda _, __, out, seen=inner: seen.append(out))
        with torch.inference_mode():
            features = model.features(x)
            everything = torch.nn.functional.layer_norm(inner[0], (192,), eps=1e-6)  # the norm as it starts: 1 and 0
        assert everything.shape == (2, 2 + 45, 192)
        torch.testing.assert_close(features, everything[:, rows].mean(dim=1))


@pytest.mark.spec("M5")
def test_ssast_of_square_patches_and_cls_is_ast() -> None:
    one, other = make((98, 64)), make((98, 64), name="ssast", pool="cls")
    x = torch.randn(2, 1, 98, 64)
    with torch.inference_mode():
        assert torch.equal(one(x), other(x))


@pytest.mark.spec("M5")
@pytest.mark.parametrize("pool", ["avgtok", "cls"])
@pytest.mark.parametrize("patch", [(16, 16), (64, 2)], ids=["patch", "frame"])
@pytest.mark.parametrize("domain", ["patch", "time"])
def test_patch_mixing_runs_on_ssast_and_both_poolings_see_it(pool: str, patch: tuple[int, int], domain: Any) -> None:
    """In Patch-Mix' release it cannot run, and its cls pooling would not see the mixed tokens."""
    model = make((98, 64), name="ssast", pool=pool, patch_bins=patch[0], patch_frames=patch[1])
    x, y = torch.randn(6, 1, 98, 64), torch.tensor([0, 1, 2, 3, 0, 1])
    counts = np.array([2, 2, 1, 1])
    for config in (
        PatchMixClConfig(name="patchmix_cl", domain=domain),
        PatchMixConfig(name="patchmix", domain=domain),
    ):
        objective = build_objective(config, model.feature_dim, counts)
        loss = objective(model, x, y, torch.Generator().manual_seed(0)).total
        assert loss.isfinite()
        loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    with torch.inference_mode():
        tokens = model.tokens(x)
        mixed = tokens.clone()
        mixed[:, ::3] = tokens.roll(1, dims=0)[:, ::3]
        assert (model.encode(mixed) - model.encode(tokens)).abs().amax() > 1e-3


@pytest.mark.parametrize("shape", [(98, 64), (101, 37), (16, 16)])
def test_features_are_the_encoded_tokens(shape: tuple[int, int]) -> None:
    model = make(shape)
    x = torch.randn(2, 1, *shape)
    with torch.inference_mode():
        tokens = model.tokens(x)
        assert tokens.shape == (2, model.grid[0] * model.grid[1], 192)
        torch.testing.assert_close(model.features(x), model.encode(tokens))
        torch.testing.assert_close(model(x), model.head(model.encode(tokens)))


@pytest.mark.parametrize(
    ("frame", "bin_", "count"),
    [(0, 0, 1), (35, 5, 2), (52, 12, 4), (90, 50, 1), (97, 44, 0), (52, 63, 0)],  # the edges lie in no patch
)
def test_a_token_covers_its_patch_of_time_and_frequency(frame: int, bin_: int, count: int) -> None:
    """One loud place; the tokens that change are those whose patch holds it, at index time patches * f + t."""
    model = make((98, 64), patch=16, stride=10)
    assert model.grid == (5, 9)
    silent = torch.zeros(1, 1, 98, 64)
    loud = silent.clone()
    loud[0, 0, frame, bin_] = 1.0
    with torch.inference_mode():
        change = (model.tokens(loud) - model.tokens(silent)).abs().amax(dim=2)[0]
    expected = {9 * f + t for f in range(5) for t in range(9) if 0 <= bin_ - 10 * f < 16 and 0 <= frame - 10 * t < 16}
    assert {int(index) for index in change.nonzero()} == expected
    assert len(expected) == count


def test_tokens_are_told_apart_by_their_positions() -> None:
    model = make((98, 64))
    with torch.inference_mode():
        tokens = model.tokens(torch.randn(1, 1, 98, 64))
        turned = model.encode(tokens.flip(1))
        assert (model.encode(tokens) - turned).abs().max() > 1e-3
        model.backbone.pos_embed.zero_()
        torch.testing.assert_close(model.encode(tokens), model.encode(tokens.flip(1)), rtol=1e-3, atol=1e-4)


def test_the_same_weights_in_timm_give_the_same_features(tmp_path: Path) -> None:
    """timm's distilled DeiT on the grey picture of the spectrogram, at a grid where nothing is resampled."""
    torch.manual_seed(3)
    picture = VisionTransformerDistilled(
        img_size=96, patch_size=16, embed_dim=192, depth=2, num_heads=3, num_classes=7
    ).eval()
    with torch.no_grad():
        for parameter in picture.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    file = tmp_path / "deit.pth"
    torch.save({"model": picture.state_dict()}, file)
    model = build_model(AstConfig(name="ast", size="tiny", depth=2, stride=16), (96, 96), 4, file).eval()
    x = torch.randn(2, 1, 96, 96)
    with torch.inference_mode():
        expected = picture.forward_features(x.transpose(2, 3).expand(-1, 3, -1, -1))[:, :2].mean(dim=1)
        features = model.features(x)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert features.std() > 0.1


def test_stochastic_depth_rises_to_the_last_block_and_rests_in_evaluation() -> None:
    model = make((48, 32), depth=3, drop_path=0.4)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.backbone.blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    x = torch.randn(8, 1, 48, 32)
    with torch.inference_mode():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))


def test_a_patch_that_does_not_fit_is_refused_before_anything_is_built() -> None:
    content = {
        "feature": NAMED["fbank-small"].model_dump(),  # 64 bins
        "model": {"name": "ast", "patch": 64, "size": "tiny"},
        "objective": {"name": "ce"},
    }
    assert ExperimentConfig.parse(content).model.name == "ast"
    content["feature"] = {**NAMED["fbank-small"].model_dump(), "n_mels": 63}
    with pytest.raises(UserError, match="patch of 64 bins x 64 frames does not fit a feature of 249 frames x 63 bins"):
        ExperimentConfig.parse(content)
