"""CycleGuardian's recipe and its search (docs/specification.md, L8, O5, T3)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from feature_store.features import NAMED
from feature_store.yaml_files import read_yaml
from search_spaces.overrides import flatten, override
from search_spaces.presets import FOLDER, load_preset, preset_description
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.optimisation import Schedule

ROOT = Path(__file__).parents[2]
PUBLISHED: dict[str, Any] = {  # docs/specification.md, 3.1 to 3.6, with what the README's command sets
    "feature.sample_rate": 22000,
    "feature.seconds": 8.0,
    "feature.keep": "last",
    "feature.pad": "repeat",
    "feature.fade_seconds": 0.0,
    "feature.band_pass": None,
    "feature.bins": 84,
    "feature.hop": 256,
    "feature.n_fft": 1024,
    "feature.mel_window": 1000,
    "feature.bins_per_octave": 12,
    "feature.low_hz": 32.7,
    "feature.high_hz": 3000.0,
    "feature.copies": 1,
    "feature.copy_of": "cycle",
    "model.name": "cycleguardian",
    "model.pretrained": None,
    "model.group_frames": 20,
    "model.group_step": 15,
    "model.clusters": 4,
    "model.fusion": "conv",
    "objective.p_cluster": 1.0,
    "objective.p_contra": 0.5,
    "objective.p_cos_sim": 0.2,
    "objective.p_reconstruction": 0.0,
    "objective.cluster_reduction": "sum",
    "objective.mix_beta": 1.0,
    "objective.tau": 0.06,
    "objective.negative_pair": "all",
    "objective.target_type": "project_flow",
    "objective.proj_dim": 128,
    "objective.class_weights": "none",
    "augment.policy": "group_sr22k",
    "augment.fill": "mean",
    "augment.roll": 0.5,
    "optim.name": "adam",
    "optim.lr": 1e-3,
    "optim.weight_decay": 0.0,
    "optim.schedule": "step",
    "optim.decay_rate": 0.33,
    "optim.decay_epochs": [200, 350, 450, 550],
    "optim.warmup_epochs": 0,
    "optim.clip_norm": None,
    "training.epochs": 600,
    "training.batch_size": 128,
    "training.drop_last": False,
    "training.sampler": "shuffle",
    "training.average.name": "ema",
    "training.average.beta": 0.1,
    "training.precision": "fp32",
}


@pytest.fixture(scope="module")
def config() -> ExperimentConfig:
    return ExperimentConfig.parse(load_preset("cycleguardian"))


@pytest.mark.spec("O5")
def test_the_preset_dumps_the_published_values(config: ExperimentConfig) -> None:
    dumped = flatten(config.model_dump(mode="json"))
    assert {key: dumped[key] for key in PUBLISHED} == PUBLISHED
    assert config.compat == [], "no defect is on"
    assert config.feature == NAMED["hybrid-augmented"]
    assert "Chu et al., 2025" in preset_description("cycleguardian")


@pytest.mark.spec("O5")
def test_the_presets_header_names_the_switches_that_bring_the_defects_back() -> None:
    header = (FOLDER / "cycleguardian.yaml").read_text()
    switched = ExperimentConfig.parse(override(load_preset("cycleguardian"), re.findall(r"--set (\S+)", header)))
    assert switched.compat == ["objective.cluster_target", "objective.projector"]
    assert switched.training.watch_test and switched.training.metric == "accuracy"
    assert switched.model.model_dump()["codes"] == "raw"


@pytest.mark.spec("T3")
def test_the_rate_falls_to_a_third_where_multistep_does(config: ExperimentConfig) -> None:
    schedule = Schedule(config.optim, epochs=600, steps_per_epoch=33)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-3)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [200, 350, 450, 550], gamma=0.33)
    for epoch in range(600):  # PyTorch counts from 0
        assert schedule.rate(epoch + 1, 5) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()
    rates = [schedule.rate(epoch + 1) for epoch in (199, 200, 350, 450, 550)]
    assert rates == pytest.approx([1e-3 * 0.33**n for n in range(5)])


@pytest.mark.spec("L8")
def test_the_weights_of_the_losses_are_searched(config: ExperimentConfig) -> None:
    space = SearchSpace.parse(read_yaml(ROOT / "search_spaces" / "cycleguardian.yaml"), where="cycleguardian.yaml")
    for weight in ("p_cluster", "p_contra", "p_cos_sim"):
        low, high = space.space[f"objective.{weight}"].values
        assert low <= getattr(config.objective, weight) <= high
    assert space.evaluation.split == "official-inner5"
