"""The spectrogram transformer: where its tokens come from, and timm's own transformer as a second implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled

from feature_store.errors import UserError
from feature_store.features import NAMED
from workers.config import AstConfig, ExperimentConfig
from workers.models import build_model
from workers.models.ast import AstClassifier


def make(shape: tuple[int, int], **changes: Any) -> AstClassifier:
    torch.manual_seed(0)
    config = AstConfig(**{"name": "ast", "size": "tiny", "depth": 2, **changes})
    model = build_model(config, shape, 4).eval()
    assert isinstance(model, AstClassifier)
    return model


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
    with pytest.raises(UserError, match="patch of 64 does not fit a feature of 249 frames x 63 bins"):
        ExperimentConfig.parse(content)
