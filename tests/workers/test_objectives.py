"""Patch-Mix and its contrastive loss against closed forms (docs/specification.md, L1 to L8, A16)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.config.objectives import ObjectiveConfig
from workers.objectives import build_objective
from workers.objectives.base import class_weights
from workers.objectives.contrastive import Projector, contrast_target, contrastive_loss
from workers.objectives.patch_mix import draw_lambda, draw_mix, mix_tokens

OFFICIAL = np.array([2063, 1215, 501, 363])


class TinyTokens(nn.Module):
    """A token model small enough to follow by hand: tokens are 2x2 patches, the encoding is their mean."""

    def __init__(self, frames: int = 6, bins: int = 4, dim: int = 5, classes: int = 4) -> None:
        super().__init__()
        self.grid = (bins // 2, frames // 2)
        self.patch = nn.Conv2d(1, dim, 2, 2)
        self.head = nn.Linear(dim, classes)
        self.feature_dim = dim
        self.encoded: list[int] = []

    def tokens(self, x: Tensor) -> Tensor:
        return self.patch(x.transpose(2, 3)).flatten(2).transpose(1, 2)

    def encode(self, tokens: Tensor) -> Tensor:
        self.encoded.append(len(tokens))
        return tokens.tanh().mean(dim=1)

    def features(self, x: Tensor) -> Tensor:
        return self.encode(self.tokens(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.fixture
def model() -> TinyTokens:
    torch.manual_seed(0)
    return TinyTokens().double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 6, 4, generator=rng, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


def objective(**content: Any) -> nn.Module:
    torch.manual_seed(2)
    return build_objective(TypeAdapter(ObjectiveConfig).validate_python(content), 5, OFFICIAL).double()


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- cross entropy ---


@pytest.mark.spec("A16")
def test_class_weights_are_those_of_the_official_training_side() -> None:
    weights = class_weights(OFFICIAL, "inverse")
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.08001, 0.13585, 0.32945, 0.45470], abs=1e-5)
    roots = class_weights(OFFICIAL, "sqrt_inverse")
    assert roots is not None and torch.allclose(roots**2 / (roots**2).sum(), weights, atol=1e-6)
    absent = class_weights(np.array([3, 0, 1]), "inverse")
    assert absent is not None and absent.tolist() == pytest.approx([0.25, 0.0, 0.75])
    with pytest.raises(UserError):
        class_weights(np.zeros(4), "inverse")


@pytest.mark.spec("L1")
@pytest.mark.parametrize("rule", ["none", "inverse"])
def test_weighted_cross_entropy(rule: str, model: TinyTokens, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    loss = objective(name="ce", class_weights=rule)(model, x, y, generator())
    logs = model(x).detach().log_softmax(dim=1)
    w = np.ones(4) if rule == "none" else (1 / OFFICIAL) / (1 / OFFICIAL).sum()
    by_hand = -sum(w[c] * logs[i, c] for i, c in enumerate(y.tolist())) / sum(w[c] for c in y.tolist())
    assert loss.total.item() == pytest.approx(float(by_hand), abs=1e-6)


# --- mixing ---


@pytest.mark.slow
@pytest.mark.spec("L2", "L3")
@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 7), grid=st.tuples(st.integers(1, 5), st.integers(1, 9)), seed=st.integers(0, 999),
    beta=st.floats(0.05, 5), domain=st.sampled_from(["patch", "time"]),
)  # fmt: skip
def test_every_token_comes_from_where_it_is_said_to(
    batch: int, grid: tuple[int, int], seed: int, beta: float, domain: Any
) -> None:
    count = grid[0] * grid[1]
    tokens = torch.arange(batch * count, dtype=torch.float64).reshape(batch, count, 1)
    kept = tokens.clone()
    mix = mix_tokens(tokens, grid, beta, domain, generator(seed))
    assert torch.equal(tokens, kept), "the tokens given stay as they are"
    assert sorted(mix.index.tolist()) == list(range(batch))
    replaced = set(mix.positions.tolist())
    for i in range(batch):
        for n in range(count):
            assert mix.tokens[i, n] == tokens[mix.index[i] if n in replaced else i, n]
    assert float(mix.lam) == pytest.approx(1 - len(replaced) / count, abs=1e-12)
    if domain == "time":
        columns = {n % grid[1] for n in replaced}
        assert replaced == {f * grid[1] + t for f in range(grid[0]) for t in columns}


@pytest.mark.spec("L2")
def test_as_many_tokens_are_replaced_as_lambda_says() -> None:
    for seed in range(50):
        lam = draw_lambda(0.7, generator(seed))
        draw = draw_mix(4, (12, 79), 0.7, "patch", generator(seed))
        assert int(draw.replaced.sum()) == int(948 * (1 - lam))
        columns = draw_mix(4, (12, 79), 0.7, "time", generator(seed)).replaced.reshape(12, 79)
        assert int(columns.any(dim=0).sum()) == int(columns.all(dim=0).sum()) == int(79 * (1 - lam))


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_lambda_follows_the_beta_law(beta: float) -> None:
    shared = generator(0)
    draws = [draw_lambda(beta, shared) for _ in range(4000)]
    assert stats.kstest(draws, stats.beta(beta, beta).cdf).pvalue > 1e-3
    assert draw_lambda(0.0, shared) == 1.0


def test_without_mixing_nothing_is_replaced() -> None:
    mix = mix_tokens(torch.randn(3, 6, 2), (2, 3), 0.0, "patch", generator())
    assert len(mix.positions) == 0 and float(mix.lam) == 1.0


@pytest.mark.spec("L4")
def test_mixed_cross_entropy_is_two_cross_entropies(model: TinyTokens, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    loss = objective(name="patchmix", mix_beta=1.0)(model, x, y, generator())
    mix = mix_tokens(model.tokens(x), model.grid, 1.0, "patch", generator())
    logs = model.head(model.encode(mix.tokens)).log_softmax(dim=1)
    lam = float(mix.lam)
    assert 0 < lam < 1
    terms = [lam * logs[i, y[i]] + (1 - lam) * logs[i, y[mix.index[i]]] for i in range(len(y))]
    assert float(loss.total.detach()) == pytest.approx(-float(sum(terms).detach()) / len(y), abs=1e-9)


def test_models_without_tokens_are_refused(batch: tuple[Tensor, Tensor]) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(24, 4)).double()
    with pytest.raises(UserError, match="no patch tokens"):
        objective(name="patchmix")(plain, *batch, generator())


# --- contrast ---


def by_hand(h: Tensor, z: Tensor, index: list[int], lam: float, tau: float, allowed: list[set[int]]) -> float:
    """The formula of docs/specification.md, 2.6, one number at a time."""
    total = 0.0
    for i, partner in enumerate(index):
        s = [float(h[i] @ z[j]) / (float(h[i].norm()) * float(z[j].norm())) / tau for j in range(len(index))]
        log_sum = math.log(sum(math.exp(s[j]) for j in allowed[i]))
        total -= lam * s[i] + (1 - lam) * s[partner] - log_sum
    return total / len(index)


@pytest.mark.spec("L5")
@pytest.mark.parametrize("index", [[1, 2, 3, 0], [0, 2, 1, 3], [0, 1, 2, 3]], ids=["cycle", "fixed points", "identity"])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_contrastive_loss_is_the_closed_form(index: list[int], lam: float) -> None:
    rng = generator(4)
    h, z = (torch.randn(4, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    loss = contrastive_loss(h, z, torch.tensor(index), lam, tau=0.06)
    assert float(loss) == pytest.approx(by_hand(h, z, index, lam, 0.06, [set(range(4))] * 4), abs=1e-6)


@pytest.mark.spec("L6")
def test_negatives_of_another_label_only() -> None:
    rng = generator(5)
    h, z = (torch.randn(4, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    y, index = torch.tensor([0, 0, 1, 0]), [1, 0, 3, 2]
    allowed = [{2, 0, 1}, {2, 1, 0}, {0, 1, 3, 2}, {2, 3}]  # other label, oneself, the partner
    loss = contrastive_loss(h, z, torch.tensor(index), 0.4, tau=0.1, negative_pair="diff_label", y=y)
    assert float(loss) == pytest.approx(by_hand(h, z, index, 0.4, 0.1, allowed), abs=1e-9)
    assert float(loss) < float(contrastive_loss(h, z, torch.tensor(index), 0.4, tau=0.1))


@pytest.mark.spec("L5")
def test_a_batch_of_one_has_nothing_to_tell_apart(model: TinyTokens, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    loss = objective(name="patchmix_cl")(model, x[:1], y[:1], generator())
    assert float(loss.parts["contrastive"]) == pytest.approx(0.0, abs=1e-9)
    loss.total.backward()


@pytest.mark.parametrize("tau", [1e-3, 0.06, 10.0])
def test_the_loss_is_finite_at_any_temperature(tau: float) -> None:
    z = torch.eye(3, dtype=torch.float32) * 1e4
    assert torch.isfinite(contrastive_loss(-z, z, torch.tensor([1, 2, 0]), 0.5, tau=tau))


@pytest.mark.spec("L5")
def test_patchmix_cl_is_the_sum_of_its_terms(model: TinyTokens, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    method = objective(name="patchmix_cl", alpha=0.7, tau=0.2)
    method.eval()  # the projector by its running statistics: the same function of one sample at a time
    model.encoded.clear()
    loss = method(model, x, y, generator())
    assert model.encoded == [2 * len(x)], "clean and mixed pass as one batch"
    mix = mix_tokens(model.tokens(x), model.grid, 1.0, "patch", generator())
    h, z = method.projector(model.encode(mix.tokens)).detach(), model.features(x).detach()
    contrast = by_hand(h, z, mix.index.tolist(), float(mix.lam), 0.2, [set(range(len(y)))] * len(y))
    ce = float(nn.functional.cross_entropy(model(x), y).detach())
    assert float(loss.total.detach()) == pytest.approx(ce + 0.7 * contrast, abs=1e-6)
    assert torch.allclose(loss.logits, model(x))


@pytest.mark.spec("L7")
@pytest.mark.parametrize(
    ("target", "flows", "projects"),
    [
        ("grad_block", False, False),
        ("grad_flow", True, False),
        ("project_block", False, True),
        ("project_flow", True, True),
    ],
)
def test_gradient_into_the_clean_side(target: str, flows: bool, projects: bool) -> None:
    method = objective(name="patchmix_cl", target_type=target)
    clean = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    side = contrast_target(method.projector, clean, method.config.target_type)  # type: ignore[arg-type, union-attr]
    assert side.requires_grad is flows
    assert torch.equal(side.detach(), clean.detach()) is not projects
    if flows:
        side.sum().backward()
        assert clean.grad is not None and bool(clean.grad.abs().sum() > 0)


@pytest.mark.spec("L8")
def test_each_hyper_parameter_moves_the_loss(model: TinyTokens, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch

    def total(**changes: Any) -> float:
        return float(objective(name="patchmix_cl", **changes)(model, x, y, generator()).total.detach())

    ce = float(objective(name="ce")(model, x, y, generator()).total.detach())
    assert total(alpha=0.0) == pytest.approx(ce, abs=1e-9)
    assert total(alpha=2.0) - ce == pytest.approx(2 * (total(alpha=1.0) - ce), rel=1e-9)
    assert total(tau=0.5) != total(tau=0.1)
    assert total(mix_beta=0.3) != total(mix_beta=1.0)


@pytest.mark.spec("M9")
def test_projector_has_the_published_layers() -> None:
    assert sum(p.numel() for p in Projector(768, 768).parameters()) == 1_182_720
    with pytest.raises(UserError, match="proj_dim"):
        objective(name="patchmix_cl", proj_dim=3)
    assert objective(name="patchmix_cl", proj_dim=3, target_type="project_flow").projector[-1].out_features == 3  # type: ignore[index, union-attr]
