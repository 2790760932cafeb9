"""The five members of the voice classifier as presets: the values of their notebooks."""

from __future__ import annotations

import pytest

from search_spaces.overrides import override
from search_spaces.presets import FOLDER, load_preset, preset_description, preset_names
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig

MEMBERS = (13, 17, 21, 30, 50)
VALUES = {  # docs/specification.md, 4.1 and 4.3
    "feature": {
        "kind": "mfcc",
        "sample_rate": 44100,
        "seconds": 1.0,
        "window_ms": 16.0,
        "shift_ms": 8.0,
        "keep": "first",
    },
    "model": {"name": "voice_cnn", "softmax_in_net": "off", "pretrained": None},
    "objective": {"name": "ce", "class_weights": "inverse", "label_smoothing": 0.0},
    "augment": {"policy": "none", "roll": 0.0},
    "optim": {
        "name": "sgd",
        "lr": 0.01,
        "momentum": 0.0,
        "weight_decay": 1e-4,
        "schedule": "constant",
        "clip_norm": None,
    },
    "training": {
        "epochs": 150,
        "batch_size": 32,
        "drop_last": True,
        "metric": "uar",
        "sampler": "shuffle",
        "precision": "fp32",
    },
}


@pytest.mark.spec("O5")
@pytest.mark.parametrize("size", MEMBERS)
def test_a_members_preset_dumps_the_values_of_its_notebook(size: int) -> None:
    config = ExperimentConfig.parse(load_preset(f"aicup_voice_mfcc{size}"))
    dumped = config.model_dump(mode="json")
    for part, values in VALUES.items():
        assert {key: dumped[part][key] for key in values} == values
    assert (config.dataset, config.task) == ("aicup-voice", "voice5")
    assert (config.feature.shape, config.feature.scalars) == ((126, size), 44)
    assert config.compat == [], "no defect is on"


def test_the_members_differ_in_nothing_but_their_feature() -> None:
    configs = [ExperimentConfig.parse(load_preset(f"aicup_voice_mfcc{size}")) for size in MEMBERS]
    assert len({config.config_hash for config in configs}) == 5
    assert all(config.model_copy(update={"feature": configs[0].feature}) == configs[0] for config in configs)
    shipped = [name for name in preset_names() if name.startswith("aicup_voice")]
    assert shipped == [f"aicup_voice_mfcc{size}" for size in MEMBERS]
    assert all("of five members" in preset_description(name) for name in shipped)


def test_a_header_names_the_switches_that_bring_the_sources_ways_back() -> None:
    header = (FOLDER / "aicup_voice_mfcc13.yaml").read_text()
    switches = [line.split("--set ")[1].split()[0] for line in header.splitlines() if "--set " in line]
    config = ExperimentConfig.parse(override(load_preset("aicup_voice_mfcc50"), switches))
    assert config.compat == ["model.softmax_in_net"] and config.training.watch_test


def test_the_search_space_has_a_family_a_member_and_chooses_by_uar() -> None:
    space = SearchSpace.load(FOLDER.parent / "aicup_voice.yaml")
    assert list(space.families) == [f"mfcc{size}" for size in MEMBERS]
    assert space.evaluation.metric == "uar" and space.promotion.each_family
