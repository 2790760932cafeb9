"""Standardising and resizing inside the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.config.models import ModelConfig
from workers.models import build_model
from workers.models.ast import AstClassifier
from workers.models.classifier import SoundClassifier
from workers.models.front_end import FrontEnd

SHAPE = (98, 64)


def make(config: dict[str, Any], shape: tuple[int, int] = SHAPE) -> SoundClassifier:
    torch.manual_seed(0)
    parsed: Any = TypeAdapter(ModelConfig).validate_python(config)
    return build_model(parsed, shape, 4).eval()


@pytest.mark.slow
@pytest.mark.spec("F3")
@pytest.mark.parametrize(
    ("resize", "shape", "grid"),
    [(0.5, (399, 64), (5, 39)), (1, (798, 128), (12, 79)), (2, (1596, 256), (25, 159)), (0.33, (263, 42), (3, 25))],
)
def test_resized_shapes_and_the_matching_token_count(
    resize: float, shape: tuple[int, int], grid: tuple[int, int]
) -> None:
    model = make({"name": "ast", "size": "tiny", "depth": 1, "resize": resize}, (798, 128))
    assert isinstance(model, AstClassifier)
    x = torch.randn(1, 1, 798, 128)
    with torch.inference_mode():
        assert model.front(x).shape == (1, 1, *shape)
        assert model.grid == grid
        assert model.tokens(x).shape == (1, grid[0] * grid[1], 192)
        assert model.backbone.pos_embed.shape[1] == 2 + grid[0] * grid[1]
        assert model(x).shape == (1, 4)


@pytest.mark.spec("F3")
def test_halving_is_bilinear() -> None:
    """Half the size with centres between pixels: each value is the mean of four."""
    x = torch.randn(2, 1, 98, 64)
    expected = x.reshape(2, 1, 49, 2, 32, 2).mean(dim=(3, 5))
    torch.testing.assert_close(FrontEnd(SHAPE, resize=0.5, standardize=False)(x), expected)


@pytest.mark.spec("F3")
def test_a_ramp_stays_a_ramp() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 98, 64)
    resized = FrontEnd(SHAPE, resize=2, standardize=False)(ramp)[0, 0, 0].numpy()
    assert resized == pytest.approx(np.clip((np.arange(128) + 0.5) / 2 - 0.5, 0, 63), abs=1e-5)


@pytest.mark.spec("F3")
@pytest.mark.parametrize("name", ["cnn6", "crnn", "resnet10", "mn", "ast"])
def test_every_model_is_built_for_the_resized_feature(name: str) -> None:
    config = {"name": name, **({"size": "tiny", "depth": 1} if name == "ast" else {})}
    whole, half = make({**config, "resize": 0.5}, (98, 64)), make(config, (49, 32))
    half.load_state_dict(whole.state_dict())
    x = torch.randn(2, 1, 98, 64)
    small = F.interpolate(x, size=(49, 32), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        torch.testing.assert_close(whole(x), half(small))
        torch.testing.assert_close(whole.features(x), half.features(small))


@pytest.mark.spec("F3")
def test_resized_to_less_than_a_patch_or_to_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"does not fit a feature of 19 frames x 12 bins"):
        make({"name": "ast", "size": "tiny", "resize": 0.2})
    with pytest.raises(UserError, match="nothing is left of 98 x 64"):
        make({"name": "resnet10", "resize": 0.01})


def test_without_both_it_is_free_and_leaves_nothing_in_the_state() -> None:
    model = make({"name": "crnn"})
    x = torch.randn(1, 1, *SHAPE)
    assert model.front(x) is x
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "head"}


@pytest.mark.slow
@pytest.mark.spec("F5")
def test_the_kept_statistics_standardise_the_feature() -> None:
    plain, standard = make({"name": "cnn6"}), make({"name": "cnn6", "standardize": "train"})
    x = 7 + 3 * torch.randn(2, 1, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(standard(x), plain(x))  # mean 0 and deviation 1 until it is told
        standard.set_statistics(7.0, 3.0)
        torch.testing.assert_close(standard(x), plain((x - 7) / 3))
        assert not torch.allclose(standard(x), plain(x))
    state = standard.state_dict()
    assert (float(state["front.mean"]), float(state["front.std"])) == (7.0, 3.0)
    copied = make({"name": "cnn6", "standardize": "train"})
    copied.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(copied(x), standard(x))
    assert all("front" not in name for name, _ in standard.named_parameters())  # no step of an optimiser moves them


@pytest.mark.spec("F5")
def test_tokens_are_those_of_the_standardised_feature() -> None:
    model = make({"name": "ast", "size": "tiny", "depth": 1, "standardize": "train", "resize": 0.5})
    assert isinstance(model, AstClassifier)
    x = torch.randn(2, 1, *SHAPE)
    with torch.inference_mode():
        before = model.tokens(x)
        model.set_statistics(1.0, 2.0)
        assert not torch.allclose(model.tokens(x), before)
        torch.testing.assert_close(model.tokens(2 * x + 1), before)
        torch.testing.assert_close(model(x), model.head(model.encode(model.tokens(x))))


@pytest.mark.spec("F5")
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf")), (0.0, -1.0)])
def test_statistics_that_cannot_be_divided_by_are_refused(mean: float, std: float) -> None:
    with pytest.raises(UserError, match="standard deviation"):
        make({"name": "cnn6", "standardize": "train"}).set_statistics(mean, std)


@pytest.mark.spec("F5")
def test_a_model_that_does_not_standardise_takes_no_statistics() -> None:
    with pytest.raises(ValueError, match="standardize"):
        make({"name": "cnn6"}).set_statistics(0.0, 1.0)
