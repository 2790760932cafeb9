"""Averaging of weights, and the learning rate of every step (docs/specification.md, T1, T2, T4, T7, T8)."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from workers.averaging import build_averaging
from workers.config.training import AverageConfig, OptimConfig
from workers.optimisation import Schedule, build_optimizer


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def step(trained: nn.Module, lr: float) -> None:
    x = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    trained.zero_grad()
    trained(x).square().sum().backward()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter -= lr * parameter.grad


def floats(trained: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trained.state_dict().items() if v.is_floating_point()}


@pytest.mark.spec("T7")
def test_a_live_blend_of_one_half_is_half_a_step() -> None:
    blended, halved = module(), module()
    averaging = build_averaging(AverageConfig(name="live_blend", beta=0.5), blended)
    for _ in range(3):
        before = floats(blended)
        full = copy.deepcopy(blended)
        step(full, 0.1)
        step(blended, 0.1)
        averaging.after_step()
        for name, value in floats(blended).items():  # batch statistics are blended as well
            assert torch.allclose(value, (before[name] + floats(full)[name]) / 2, atol=1e-12)
    step(halved, 0.05)
    once = module()
    one = build_averaging(AverageConfig(name="live_blend", beta=0.5), once)
    step(once, 0.1)
    one.after_step()
    assert torch.allclose(once[0].weight, halved[0].weight, atol=1e-12)  # type: ignore[index]


@pytest.mark.spec("T8")
def test_a_shadow_follows_and_is_what_is_evaluated() -> None:
    live = module()
    averaging = build_averaging(AverageConfig(name="ema", beta=0.9), live)
    expected = floats(live)
    for _ in range(4):
        step(live, 0.1)
        averaging.after_step()
        expected = {name: 0.9 * expected[name] + 0.1 * value for name, value in floats(live).items()}
    trained = floats(live)
    with averaging.evaluated_weights():
        assert all(torch.allclose(value, expected[name], atol=1e-12) for name, value in floats(live).items())
    assert all(torch.equal(value, trained[name]) for name, value in floats(live).items())
    with pytest.raises(RuntimeError), averaging.evaluated_weights():
        raise RuntimeError
    assert all(torch.equal(value, trained[name]) for name, value in floats(live).items())


@pytest.mark.parametrize("name", ["none", "ema", "live_blend"])
def test_averaging_resumes(name: Any) -> None:
    whole, first = module(), module()
    config = AverageConfig(name=name, beta=0.7)
    one, two = build_averaging(config, whole), build_averaging(config, first)
    for _ in range(4):
        step(whole, 0.1)
        one.after_step()
    for _ in range(2):
        step(first, 0.1)
        two.after_step()
    second = module()
    second.load_state_dict(first.state_dict())
    three = build_averaging(config, second)
    three.load_state_dict(two.state_dict())
    for _ in range(2):
        step(second, 0.1)
        three.after_step()
    with one.evaluated_weights(), three.evaluated_weights():
        assert all(torch.equal(value, floats(whole)[name]) for name, value in floats(second).items())


@pytest.mark.spec("T1")
def test_optimisers_and_their_decay() -> None:
    parameters = list(module().parameters())
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        optimizer = build_optimizer(OptimConfig(name=name, lr=0.3, weight_decay=0.2), parameters, "cpu")  # type: ignore[arg-type]
        assert type(optimizer) is kind
        assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.3, 0.2)
    assert optimizer.defaults["momentum"] == 0.9


@pytest.mark.spec("T2")
def test_cosine_by_epoch() -> None:
    schedule = Schedule(OptimConfig(lr=5e-5), epochs=50, steps_per_epoch=517)
    rates = {epoch: schedule.rate(epoch, step=200) for epoch in (1, 10, 25, 50)}
    assert rates == pytest.approx({1: 4.995e-5, 10: 4.523e-5, 25: 2.5025e-5, 50: 5e-8}, rel=2e-4)


@pytest.mark.spec("T2")
def test_warm_up_rises_by_step_to_the_cosine() -> None:
    schedule = Schedule(OptimConfig(lr=1e-3, warmup_epochs=10), epochs=50, steps_per_epoch=20)
    plain = Schedule(OptimConfig(lr=1e-3), epochs=50, steps_per_epoch=20)
    rates = [schedule.rate(1 + n // 20, n % 20) for n in range(200)]
    assert rates[0] == pytest.approx(1e-4)
    assert all(b - a == pytest.approx(rates[1] - rates[0]) for a, b in itertools.pairwise(rates))
    assert rates[-1] < plain.rate(10) == pytest.approx(rates[-1] + rates[1] - rates[0])
    assert schedule.rate(11) == plain.rate(11)


@pytest.mark.spec("T2")
def test_step_decays_strictly_after_its_epochs() -> None:
    schedule = Schedule(OptimConfig(lr=1.0, schedule="step"), epochs=400, steps_per_epoch=2)
    rates = [schedule.rate(epoch) for epoch in (1, 120, 121, 160, 161, 400)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])
    fast = Schedule(OptimConfig(lr=1.0, decay_rate=0.5), epochs=10, steps_per_epoch=1)
    assert fast.rate(10) == pytest.approx(0.5**3), "the cosine ends at lr * decay_rate^3"


@pytest.mark.spec("T4")
def test_one_cycle_is_pytorchs() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=60)
    schedule = Schedule(OptimConfig(lr=0.1, schedule="one_cycle"), epochs=6, steps_per_epoch=10)
    for n in range(60):
        assert schedule.rate(1 + n // 10, n % 10) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if n < 59:
            reference.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_one_cycle_of_very_few_steps(steps: int) -> None:
    schedule = Schedule(OptimConfig(lr=0.1, schedule="one_cycle"), epochs=steps, steps_per_epoch=1)
    assert all(0 < schedule.rate(epoch) <= 0.1 for epoch in range(1, steps + 1))
