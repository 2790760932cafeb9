"""Training steps of Patch-Mix CL on AST: lungtune's against a plain eager loop, in float32 and under autocast.

On a GPU: AST base at 798 x 128, batch 8, and the largest batch that fits. On a CPU: a small AST, for the ratio alone.
The plain loops do what the published training does a step: a clean and a mixed pass one after the other, an unfused
optimiser, a deep copy of all weights for the moving average. Features are in memory for all of them.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fold import made_up_fold
from search_spaces.overrides import merge
from workers.config import ExperimentConfig
from workers.models import build_model
from workers.objectives.contrastive import Projector, contrastive_loss
from workers.objectives.patch_mix import mix_tokens
from workers.training import _Run

BASE: dict[str, Any] = {
    "feature": "fbank",
    "model": {"name": "ast"},
    "objective": {"name": "patchmix_cl"},
    "augment": {"policy": "none"},  # the same for all, so that only the step is compared
    "optim": {"name": "adam", "lr": 5e-5, "weight_decay": 1e-6},
    "training": {"batch_size": 8, "average": {"name": "live_blend"}, "compile": True},
}
ON_CPU: dict[str, Any] = {
    "feature": "fbank-small",
    "model": {"size": "tiny", "depth": 4, "stride": 16},
    "training": {"compile": False},
}
SECONDS = 4.0  # that each loop is timed for
Step = Callable[[], object]


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio to the plain float32 loop."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    config = ExperimentConfig.parse(BASE if on_gpu else merge(BASE, ON_CPU))
    label = "AST base, 798 x 128" if on_gpu else f"AST tiny, 4 blocks, {config.feature.shape[0]} x 64"
    flops = _flops(config, device)
    rows: list[dict[str, Any]] = []
    first = 0.0
    for name, step in (
        ("plain eager float32", plain(config, device, autocast=False)),
        ("plain eager autocast bf16", plain(config, device, autocast=True)),
        ("lungtune", ours(config, device)),
    ):
        rate = _rate(step, device)
        first = first or rate
        what = f"{label}, batch {config.training.batch_size}: {name}"
        rows.append({"name": what, "value": rate, "unit": "steps/s", "ratio": rate / first})
        rows.append({"name": f"{what}, achieved", "value": rate * flops / 1e12, "unit": "TFLOP/s", "ratio": None})
    if on_gpu:
        rows.append({"name": f"{label}: largest batch", "value": _largest(config), "unit": "cycles", "ratio": None})
    return rows


def ours(config: ExperimentConfig, device: torch.device) -> Step:
    """A step as `train_fold` runs it: one batch of clean and mixed, fused optimiser, fused averaging."""
    training = _Run(config, made_up_fold(config), 0, device, None, time.perf_counter())
    training.trained.train()
    batch = torch.arange(config.training.batch_size)
    return lambda: training._step(batch)


def plain(config: ExperimentConfig, device: torch.device, *, autocast: bool) -> Step:
    """The published step, in plain PyTorch."""
    data = made_up_fold(config)
    torch.manual_seed(0)
    model = build_model(config.model, config.feature.shape, 4).to(device)
    projector = Projector(model.feature_dim, model.feature_dim).to(device)
    modules = torch.nn.ModuleList([model, projector]).train()
    optimizer = torch.optim.Adam(modules.parameters(), lr=5e-5, weight_decay=1e-6, foreach=False)
    generator = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(data.train[: config.training.batch_size])
    x = torch.from_numpy(np.array(data.values[rows])).unsqueeze(1).float()
    y = torch.from_numpy(data.labels[rows]).to(device)
    half = torch.autocast(device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext()

    def step() -> None:
        batch = x.to(device)
        before = copy.deepcopy(modules.state_dict())
        with half:
            clean = model.features(batch)
            ce = F.cross_entropy(model.head(clean).float(), y)
            mix = mix_tokens(model.tokens(batch), model.grid, 1.0, "patch", generator)
            mixed = projector(model.encode(mix.tokens))
            loss = ce + contrastive_loss(mixed, clean.detach(), mix.index, float(mix.lam), tau=0.06)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after = modules.state_dict()
        modules.load_state_dict({k: (v + before[k]) / 2 if v.is_floating_point() else v for k, v in after.items()})

    return step


def _rate(step: Step, device: torch.device) -> float:
    """Steps a second after five to warm up."""
    for _ in range(5):
        step()
    _wait(device)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        step()
        count += 1
        _wait(device)
    return count / (time.perf_counter() - begun)


def _flops(config: ExperimentConfig, device: torch.device) -> float:
    """Floating-point operations of one step's products, counted by PyTorch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        ours(config.model_copy(update={"training": config.training.model_copy(update={"compile": False})}), device)()
    return float(counter.get_total_flops())


def _largest(config: ExperimentConfig) -> int:
    """The largest power of two that a step can be run with on this GPU."""
    size = config.training.batch_size
    while size <= 4096:
        training = config.training.model_copy(update={"batch_size": size * 2, "compile": False})
        try:
            ours(config.model_copy(update={"training": training}), torch.device("cuda"))()
        except torch.cuda.OutOfMemoryError:
            break
        finally:
            torch.cuda.empty_cache()
        size *= 2
    return size


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
