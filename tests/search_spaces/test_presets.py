"""Presets: the published recipes' values, names, and what is laid over one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_store.errors import UserError
from search_spaces.overrides import flatten
from search_spaces.presets import config_mapping, load_preset, preset_description, preset_names
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig

ROOT = Path(__file__).parents[2]
COMMON = {  # docs/specification.md, 2.2, 2.3, 2.5, 2.7
    "dataset": "icbhi",
    "task": "lungsound4",
    "devices": None,
    "feature.kind": "fbank",
    "feature.sample_rate": 16000,
    "feature.seconds": 8.0,
    "feature.n_mels": 128,
    "feature.frame_ms": 25.0,
    "feature.shift_ms": 10.0,
    "feature.pad": "repeat",
    "feature.fade_seconds": 0.0625,
    "feature.mean": -4.2677393,
    "feature.std": 4.5689974,
    "feature.copies": 0,
    "feature.clip_blank": False,
    "feature.band_pass": None,
    "model.name": "ast",
    "model.size": "base",
    "model.depth": 12,
    "model.patch": 16,
    "model.stride": 10,
    "model.drop_path": 0.0,
    "model.resize": 1.0,
    "model.standardize": "none",
    "model.pretrained.file": "audioset_10_10_0.4593.pth",
    "model.pos_embed_layout": "correct",
    "augment.policy": "icbhi_ast_sup",
    "augment.fill": "mean",
    "augment.gate": "uniform",
    "optim.name": "adam",
    "optim.lr": 5e-5,
    "optim.weight_decay": 1e-6,
    "optim.schedule": "cosine",
    "optim.decay_rate": 0.1,
    "optim.warmup_epochs": 0,
    "optim.clip_norm": None,
    "training.epochs": 50,
    "training.batch_size": 8,
    "training.drop_last": True,
    "training.sampler": "shuffle",
    "training.concat_scale": 0.0,
    "training.average.name": "live_blend",
    "training.average.beta": 0.5,
    "training.metric": None,
    "training.min_sensitivity": 5.0,
    "training.watch_test": False,
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "icbhi_ce": {"name": "ce", "class_weights": "inverse", "label_smoothing": 0.0},
    "icbhi_patchmix": {"name": "patchmix", "class_weights": "none", "mix_beta": 1.0, "domain": "patch"},
    "icbhi_patchmix_cl": {
        "name": "patchmix_cl",
        "class_weights": "none",
        "mix_beta": 1.0,
        "domain": "patch",
        "alpha": 1.0,
        "tau": 0.06,
        "proj_dim": 768,
        "negative_pair": "all",
        "target_type": "grad_block",
    },
}


@pytest.mark.spec("O5")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_preset_dumps_the_published_values(name: str) -> None:
    config = ExperimentConfig.parse(load_preset(name))
    dumped = flatten(config.model_dump(mode="json"))
    assert {key: dumped[key] for key in COMMON} == COMMON
    assert config.objective.model_dump(mode="json") == OBJECTIVES[name]
    assert config.compat == [], "no defect is on"


def test_the_three_presets_are_there_and_say_what_they_are() -> None:
    assert [name for name in preset_names() if name.startswith("icbhi_")] == sorted(OBJECTIVES)
    assert all("Bae et al., 2023" in preset_description(name) for name in OBJECTIVES)
    assert not any(preset_description(name).startswith("#") for name in preset_names())


def test_a_header_names_the_switches_that_bring_the_defects_back() -> None:
    from search_spaces.overrides import override
    from search_spaces.presets import FOLDER

    for name in OBJECTIVES:
        header = (FOLDER / f"{name}.yaml").read_text()
        switches = [line.split("--set ")[1].split()[0] for line in header.splitlines() if "--set " in line]
        assert len(switches) == 3
        config = ExperimentConfig.parse(override(load_preset(name), switches))
        assert config.compat == ["augment.gate", "model.pos_embed_layout"] and config.training.watch_test


def test_an_unknown_preset_names_the_nearest_and_the_others() -> None:
    for load in (load_preset, config_mapping):
        with pytest.raises(UserError) as caught:
            load("icbhi_patchmix_c")
        assert "did you mean 'icbhi_patchmix_cl'?" in str(caught.value) and "icbhi_ce" in str(caught.value)


def test_a_name_is_a_preset_and_a_file_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_mapping("icbhi_ce") == load_preset("icbhi_ce")
    plain = tmp_path / "plain.yaml"
    plain.write_text("model: {name: crnn}\n")
    assert config_mapping(str(plain)) == {"model": {"name": "crnn"}}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "icbhi_ce").write_text("model: {name: cnn6}\n")
    assert config_mapping("icbhi_ce") == {"model": {"name": "cnn6"}}, "a file that is here"
    with pytest.raises(UserError, match="no such file"):
        config_mapping("none.yaml")


def test_a_file_is_laid_over_the_preset_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = {
        "preset": "icbhi_patchmix_cl",
        "training": {"epochs": 3},
        "objective": {"name": "ce"},
        "model": {"size": "tiny"},
    }
    path.write_text(yaml.safe_dump(own))
    mapping = config_mapping(str(path))
    config = ExperimentConfig.parse(mapping)
    assert (config.training.epochs, config.training.batch_size) == (3, 8)
    assert mapping["objective"] == {"name": "ce"}, "another objective replaces the preset's"
    assert config.model.model_dump()["size"] == "tiny" and config.model.pretrained is not None
    path.write_text("preset: icbhi_cl\n")
    with pytest.raises(UserError, match=r"known: .*icbhi_ce") as caught:
        config_mapping(str(path))
    assert caught.value.where == f"{path}, preset"


def test_a_search_space_takes_a_preset_for_its_base() -> None:
    space = SearchSpace.parse({"name": "s", "base": {"preset": "icbhi_ce", "training": {"epochs": 2}}}, where="s.yaml")
    assert space.base == {**load_preset("icbhi_ce"), "training": {**load_preset("icbhi_ce")["training"], "epochs": 2}}
    same = SearchSpace.parse({"name": "s", "base": space.base})
    assert same.study_name == space.study_name, "what is searched counts, not how it was written"
    with pytest.raises(UserError, match=r"s\.yaml, base, preset"):
        SearchSpace.parse({"name": "s", "base": {"preset": "icbhi"}}, where="s.yaml")


def test_the_shipped_search_is_around_the_preset_and_takes_overrides() -> None:
    path = ROOT / "search_spaces" / "ast_patchmix_cl.yaml"
    space = SearchSpace.load(path, ["base.model.pretrained=null", "base.training.epochs=2"])
    assert space.base["model"]["pretrained"] is None and space.base["training"]["epochs"] == 2
    assert space.base["training"]["batch_size"] == 8
    assert space.space["objective.domain"].values == ["patch", "time"]
    preset = ExperimentConfig.parse(load_preset("icbhi_patchmix_cl"))
    for corner in SearchSpace.load(path).corners("all"):
        assert corner.model_copy(update={"objective": preset.objective}) == preset


def test_presets_are_packaged() -> None:
    import sys

    if sys.version_info < (3, 11):
        import tomli as tomllib
    else:
        import tomllib
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["search_spaces"]
    packaged = {path for pattern in data for path in (ROOT / "search_spaces").glob(pattern)}
    assert {path.stem for path in packaged} >= set(OBJECTIVES)
