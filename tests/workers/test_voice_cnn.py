"""The voice classifier: its size, its published checkpoint, and the softmax that its source trains through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.inputs import WithScalars, inputs_of
from workers.models import build_model
from workers.models.checkpoint import load_checkpoint
from workers.objectives import build_objective

CHECKPOINT = "voice/mfcc13_use_all.pth"
SHAPES = {13: (3, 12), 17: (3, 12), 21: (4, 12), 30: (5, 12), 50: (8, 12)}
"""Coefficients and frames after the third stage (docs/specification.md, 4.2)."""


def config(n_mfcc: int = 13, **model: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(
        {
            "dataset": "aicup-voice",
            "task": "voice5",
            "feature": {"kind": "mfcc", "n_mfcc": n_mfcc, "table": 44},
            "model": {"name": "voice_cnn", **model},
            "objective": {"name": "ce", "class_weights": "inverse"},
        }
    )


def built(given: ExperimentConfig) -> Any:
    torch.manual_seed(0)
    return build_model(given.model, given.feature.shape, 5, scalars=given.feature.scalars)


def batch(n_mfcc: int = 13, size: int = 6) -> WithScalars:
    generator = torch.Generator().manual_seed(5)
    inputs = inputs_of(torch.randn(size, 126, n_mfcc, generator=generator), torch.rand(size, 44, generator=generator))
    assert isinstance(inputs, WithScalars)
    return inputs


def published_forward(state: dict[str, Tensor], coefficients: Tensor, medical: Tensor) -> Tensor:
    """Logits of the specification, written out; ``[batch, 1, n_mfcc, 126]`` and ``[batch, 44]``.

    Specified in docs/specification.md, 4.2.
    """
    x = coefficients
    for n in (1, 2, 3):
        x = F.celu(F.conv2d(x, state[f"conv{n}.weight"], state[f"conv{n}.bias"], padding=1))
        x = normalised(x, state, f"bn{n}")
        x = F.max_pool2d(x, 2, padding=1)
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    m = medical
    for n in (1, 2, 3):
        m = F.celu(F.linear(m, state[f"linear{n}.weight"], state[f"linear{n}.bias"]))
    both = F.celu(F.linear(torch.cat([x, m], dim=1), state["fc1.weight"], state["fc1.bias"]))
    return F.linear(normalised(both, state, "bnfc"), state["fc2.weight"], state["fc2.bias"])


def normalised(x: Tensor, state: dict[str, Tensor], part: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{part}.{name}"].reshape(1, -1, *[1] * (x.dim() - 2))
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


@pytest.mark.spec("M13")
@pytest.mark.parametrize("n_mfcc", SHAPES)
def test_every_size_has_the_published_live_parameters_and_stages(n_mfcc: int) -> None:
    model = built(config(n_mfcc))
    assert sum(p.numel() for p in model.parameters()) == 444_261
    seen: list[tuple[int, ...]] = []
    model.backbone.bn3.register_forward_hook(
        lambda _, __, out: seen.append(tuple(F.max_pool2d(out, 2, padding=1).shape))
    )
    model.eval()
    assert model(batch(n_mfcc)).shape == (6, 5)
    assert seen == [(6, 64, *SHAPES[n_mfcc])]


@pytest.mark.spec("M13")
def test_the_published_checkpoint_gives_the_logits_of_the_specification(shared_data: Path) -> None:
    path = shared_data / CHECKPOINT
    if not path.is_file():
        pytest.skip(f"no {path}")
    model = built(config())
    report = load_checkpoint(model, path)
    assert not report.missing and len(report.left_over) == 74 - 36  # those that no forward uses
    inputs, state = batch(), torch.load(path, map_location="cpu", weights_only=True)
    with torch.inference_mode():
        own = model.eval()(inputs)
        wanted = published_forward(state, inputs.values.transpose(2, 3), inputs.scalars)
    torch.testing.assert_close(own[:, [1, 2, 3, 4, 0]], wanted, rtol=1e-4, atol=1e-5)  # its order: 1 to 5, normal last


@pytest.mark.spec("M13")
def test_a_published_layout_with_unused_layers_loads_and_normal_comes_first(tmp_path: Path) -> None:
    state = made_checkpoint()
    torch.save(state, tmp_path / "mfcc13_use_all.pth")
    model = built(config())
    load_checkpoint(model, tmp_path / "mfcc13_use_all.pth")
    inputs = batch()
    with torch.inference_mode():
        wanted = published_forward(state, inputs.values.transpose(2, 3), inputs.scalars)
        torch.testing.assert_close(model.eval()(inputs), wanted[:, [4, 0, 1, 2, 3]], rtol=1e-4, atol=1e-5)


def test_a_published_checkpoint_does_not_fit_a_model_without_the_medical_table(tmp_path: Path) -> None:
    torch.save(made_checkpoint(), tmp_path / "mfcc13_use_all.pth")
    bare = config().model
    with pytest.raises(UserError):
        load_checkpoint(build_model(bare, (126, 13), 5), tmp_path / "mfcc13_use_all.pth")


def made_checkpoint() -> dict[str, Tensor]:
    """Random weights in the published layout."""
    torch.manual_seed(3)
    kernels = {1: (16, 1, 3, 3), 2: (32, 16, 3, 10), 3: (64, 32, 3, 10), 4: (64, 64, 3, 3), 5: (64, 64, 3, 3)}
    kernels |= {6: (128, 64, 3, 3), 7: (128, 128, 3, 3)}
    layers: dict[str, nn.Module] = {}
    for n, shape in kernels.items():
        layers[f"conv{n}"] = nn.Conv2d(shape[1], shape[0], shape[2:])
        layers[f"bn{n}"] = nn.BatchNorm2d(64 if n == 6 else shape[0])
    widths = (44, 1024, 256, 128)
    layers |= {f"linear{n}": nn.Linear(widths[n - 1], widths[n]) for n in (1, 2, 3)}
    layers |= {"l1": nn.BatchNorm1d(1024), "l2": nn.BatchNorm1d(256)}
    layers |= {"fc1": nn.Linear(192, 128), "bnfc": nn.BatchNorm1d(128), "fc2": nn.Linear(128, 5)}
    return {f"{part}.{name}": value for part, layer in layers.items() for name, value in layer.state_dict().items()}


@pytest.mark.spec("L14")
def test_softmax_in_the_network_shrinks_the_gradient_and_is_named_in_the_record() -> None:
    counts = np.array([10, 20, 30, 40, 50])
    given = {mode: config(softmax_in_net=mode) for mode in ("off", "seed_compat")}
    assert given["off"].compat == [] and given["seed_compat"].compat == ["model.softmax_in_net"]
    assert given["off"].config_hash != given["seed_compat"].config_hash
    inputs, labels = batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    norms = {}
    for mode, one in given.items():
        model = built(one).train()
        loss = build_objective(one.objective, model.feature_dim, counts)(model, inputs, labels, torch.Generator())
        loss.total.backward()
        norms[mode] = float(model.head[3].weight.grad.norm())
    assert 0 < norms["seed_compat"] < 0.5 * norms["off"]


@pytest.mark.spec("L14")
def test_the_doubled_softmax_is_that_of_the_source() -> None:
    one = config(softmax_in_net="seed_compat")
    model, inputs, labels = built(one).train(), batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    counts = np.array([10, 20, 30, 40, 50])
    loss = build_objective(one.objective, model.feature_dim, counts)(model, inputs, labels, torch.Generator())
    plain = built(config()).train()  # the same weights: nothing is drawn for the softmax
    rows = plain(inputs).softmax(dim=1)  # what the source's network puts out
    nll = -rows.log_softmax(dim=1)[torch.arange(6), labels]
    weights = 1 / torch.from_numpy(counts).float()[labels]
    torch.testing.assert_close(loss.total, (weights * nll).sum() / weights.sum())


@pytest.mark.spec("L14")
def test_what_is_evaluated_are_logits_whose_softmax_is_the_sources_output() -> None:
    doubled, plain = built(config(softmax_in_net="seed_compat")).eval(), built(config()).eval()
    torch.testing.assert_close(doubled(batch()), plain(batch()))


@pytest.mark.spec("A16")
def test_class_weights_of_one_over_the_count_give_the_sources_loss() -> None:
    one = config()
    model, inputs, labels = built(one).eval(), batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    counts = np.array([3, 5, 7, 11, 45])
    loss = build_objective(one.objective, model.feature_dim, counts)(model, inputs, labels, torch.Generator())
    source = nn.CrossEntropyLoss(weight=torch.from_numpy(1 / counts).float())
    torch.testing.assert_close(loss.total, source(model(inputs), labels))


@pytest.mark.slow
def test_the_model_learns_a_tiny_batch() -> None:
    model, inputs, labels = built(config()).train(), batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_the_medical_numbers_decide_with_the_sound() -> None:
    model, inputs = built(config()).eval(), batch()
    other = WithScalars(inputs.values, inputs.scalars.flip(0))
    assert not torch.allclose(model(inputs), model(other))


def test_without_a_table_the_network_is_of_sound_alone() -> None:
    model = build_model(config().model, (126, 13), 5).eval()
    assert model(batch().values).shape == (6, 5)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(UserError, match="needs 40 frames"):
        build_model(config().model, (39, 13), 5)
    assert build_model(config().model, (40, 2), 5).eval()(torch.zeros(1, 1, 40, 2)).shape == (1, 5)
