"""Patch-Mix' command line against SEEDS 2.10, and its three recipes against SEEDS 2.8 (rows O4 and O5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from feature_store.errors import UserError
from search_spaces.patchmix_command import convert
from search_spaces.patchmix_flags import FLAGS, flags_table
from search_spaces.presets import config_mapping, load_preset, over_preset, preset_names
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from workers.config import ExperimentConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "patchmix.md"
COMMON = (
    "python main.py --tag bs8_lr5e-5 --seed 1 --class_split lungsound --n_cls 4 --epochs 50 --batch_size 8 \\\n"
    "  --optimizer adam --learning_rate 5e-5 --weight_decay 1e-6 --cosine --model ast --test_fold official \\\n"
    "  --pad_types repeat --resz 1 --n_mels 128 --ma_update --ma_beta 0.5 --from_sl_official --audioset_pretrained "
)
SCRIPTS = {
    "icbhi_ce": COMMON + "--weighted_loss --method ce",
    "icbhi_patchmix": COMMON + "--method patchmix --mix_beta 1.0",
    "icbhi_patchmix_cl": COMMON + "--method patchmix_cl --temperature 0.06 --proj_dim 768 --alpha 1.0 --mix_beta 1.0",
}
DEFAULTS: dict[str, Any] = {  # SEEDS 2.10; False: a switch that is off, None: no value
    "seed": 0, "print_freq": 10, "save_freq": 100, "save_dir": "./save", "tag": "", "resume": None, "eval": False,
    "two_cls_eval": False,
    "optimizer": "adam", "epochs": 400, "learning_rate": 1e-3, "lr_decay_epochs": "120,160", "lr_decay_rate": 0.1,
    "weight_decay": 1e-4, "momentum": 0.9, "cosine": False, "warm": False, "warm_epochs": 0, "weighted_loss": False,
    "mix_beta": 1.0, "time_domain": False,
    "dataset": "icbhi", "data_folder": "./data/", "batch_size": 128, "num_workers": 8, "class_split": "lungsound",
    "n_cls": 4, "test_fold": "official", "weighted_sampler": False, "stetho_id": -1, "sample_rate": 16000,
    "butterworth_filter": None, "desired_length": 8, "nfft": 1024, "n_mels": 128, "concat_aug_scale": 0,
    "pad_types": "repeat", "resz": 1, "raw_augment": 0, "blank_region_clip": False, "specaug_policy": "icbhi_ast_sup",
    "specaug_mask": "mean",
    "model": "ast", "pretrained": False, "pretrained_ckpt": None, "from_sl_official": False, "ma_update": False,
    "ma_beta": 0, "audioset_pretrained": False, "ssast_task": "ft_avgtok", "fshape": 16, "tshape": 16,
    "ssast_pretrained_type": "Patch",
    "method": "ce", "proj_dim": 768, "temperature": 0.06, "alpha": 1.0, "negative_pair": "all",
    "target_type": "grad_block",
}  # fmt: skip
DEAD = {"butterworth_filter", "nfft", "concat_aug_scale"}


def parse(content: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(content)


# --- the table ---


def test_O4_every_flag_stands_in_the_table_once_with_its_default() -> None:
    assert {flag.name: flag.default for flag in FLAGS} == DEFAULTS
    assert len(FLAGS) == len(DEFAULTS)
    assert {flag.name for flag in FLAGS if flag.status == "dead"} >= DEAD


def known_keys(model: Any, prefix: str = "") -> set[str]:
    """Dotted keys of a pydantic model, those of every member of a union."""
    if get_origin(model) is Union or type(model).__name__ == "UnionType":
        return set().union(*(known_keys(member, prefix) for member in get_args(model)))
    if hasattr(model, "__metadata__"):
        return known_keys(get_args(model)[0], prefix)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return set()
    keys = set()
    for name, field in model.model_fields.items():
        keys |= {prefix + name} | known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def test_O4_every_key_of_the_table_is_one_of_a_config() -> None:
    known = known_keys(ExperimentConfig)
    assert {"model.pos_embed_layout", "feature.band_pass", "training.average.beta"} <= known
    named = [name for flag in FLAGS for name in flag.becomes]
    assert {name for name in named if not name.startswith(("--", "lungtune "))} <= known


def test_O4_the_page_shows_the_table_as_it_is() -> None:
    assert flags_table() in PAGE.read_text()


# --- recipes ---


@pytest.mark.parametrize("name", SCRIPTS)
def test_O5_a_published_script_converts_to_its_preset(name: str) -> None:
    converted = convert(SCRIPTS[name])
    assert parse(converted.config) == parse(load_preset(name))
    assert (converted.seed, converted.split, converted.fold, converted.evaluation) == (1, "official", None, None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_O5_presets_hold_the_listed_values(name: str) -> None:
    config = parse(config_mapping(name)).model_dump()
    assert set(SCRIPTS) <= set(preset_names())
    assert config["feature"]["kind"] == "fbank" and parse(load_preset(name)).feature.shape == (798, 128)
    listed = {
        ("model", "name"): "ast", ("model", "size"): "base", ("model", "depth"): 12,
        ("model", "pos_embed_layout"): "correct", ("model", "resize"): 1.0,
        ("optim", "name"): "adam", ("optim", "lr"): 5e-5, ("optim", "weight_decay"): 1e-6,
        ("optim", "schedule"): "cosine", ("optim", "decay_rate"): 0.1, ("optim", "warmup_epochs"): 0,
        ("training", "epochs"): 50, ("training", "batch_size"): 8, ("training", "sampler"): "shuffle",
        ("training", "min_sensitivity"): 5.0, ("training", "drop_last"): True,
        ("augment", "policy"): "icbhi_ast_sup", ("augment", "fill"): "mean", ("augment", "gate"): "uniform",
    }  # fmt: skip
    assert {key: config[key[0]][key[1]] for key in listed} == listed
    assert config["model"]["pretrained"]["file"] == "audioset_10_10_0.4593.pth"
    assert config["training"]["average"] == {"name": "live_blend", "beta": 0.5}
    own: dict[str, dict[str, Any]] = {
        "icbhi_ce": {"name": "ce", "class_weights": "inverse"},
        "icbhi_patchmix": {"name": "patchmix", "mix_beta": 1.0, "class_weights": "none", "domain": "patch"},
        "icbhi_patchmix_cl": {
            "name": "patchmix_cl", "alpha": 1.0, "tau": 0.06, "proj_dim": 768, "mix_beta": 1.0, "domain": "patch",
            "negative_pair": "all", "target_type": "grad_block", "class_weights": "none",
        },
    }  # fmt: skip
    assert {key: config["objective"][key] for key in own[name]} == own[name]
    assert parse(load_preset(name)).compat == []


def test_a_preset_can_be_laid_under_a_config_and_a_search_space(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"preset": "icbhi_patchmix_cl", "objective": {"tau": 0.1}}))
    config = parse(config_mapping(str(file)))
    assert config.objective.tau == 0.1 and config.training.epochs == 50  # type: ignore[union-attr]
    content = {"name": "over", "base": {"preset": "icbhi_ce", "training": {"epochs": 3}}}
    space = SearchSpace.parse(content)
    (corner,) = space.corners("all")
    assert (corner.training.epochs, corner.optim.lr) == (3, 5e-5)
    for broken in ("icbhi_cee", 7):
        with pytest.raises(UserError, match="icbhi_ce"):
            over_preset({"preset": broken}, where="here")


# --- single flags ---


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ("", "optim.schedule", "step"),
        ("", "training.epochs", 400),
        ("--warm --cosine", "optim.warmup_epochs", 10),
        ("--optimizer sgd --momentum 0.8", "optim.momentum", 0.8),
        ("--lr_decay_epochs 3,9", "optim.decay_epochs", (3, 9)),
        ("--weighted_sampler", "training.sampler", "weighted"),
        ("--stetho_id 1", "devices", ("LittC2SE",)),
        ("--n_cls 2", "task", "lungsound2"),
        ("--class_split diagnosis --n_cls 3", "task", "diagnosis3"),
        ("--two_cls_eval", "training.metric", "icbhi2"),
        ("--pad_types aug", "feature.pad", "augment"),
        ("--pad_types zero", "feature.pad", "zero"),
        ("--resz 0.5", "model.resize", 0.5),
        ("--raw_augment 2", "feature.copies", 2),
        ("--blank_region_clip", "feature.clip_blank", True),
        ("--desired_length 5", "feature.seconds", 5.0),
        ("--specaug_policy SM --specaug_mask zero", "augment.policy", "SM"),
        ("--method patchmix --time_domain", "objective.domain", "time"),
        ("--method patchmix --mix_beta -1", "objective.mix_beta", 0.0),
        ("--method patchmix_cl --negative_pair diff_label", "objective.negative_pair", "diff_label"),
        ("--method patchmix_cl --target_type project_flow", "objective.target_type", "project_flow"),
        ("--model ssast --ssast_task ft_cls --fshape 128 --tshape 2", "model.pool", "cls"),
        ("--model resnet50 --from_sl_official", "model.pretrained_stem", "random"),
        ("--model cnn6 --from_sl_official", "model.pretrained.file", "Cnn6_mAP=0.343.pth"),
    ],
)
def test_O4_a_flag_becomes_its_key(flags: str, key: str, value: Any) -> None:
    found: Any = parse(convert(flags).config)
    for step in key.split("."):
        found = getattr(found, step)
    assert found == value


def test_folds_and_checkpoints_are_not_part_of_a_config() -> None:
    converted = convert("--test_fold 3 --eval --pretrained --pretrained_ckpt save/x/best.pth")
    assert (converted.split, converted.fold, converted.evaluation) == ("five-fold", 3, "save/x/best.pth")


@pytest.mark.parametrize("flag", sorted(DEAD))
def test_a_dead_flag_is_told_with_what_does_its_work_here(flag: str) -> None:
    (told,) = [note for note in convert(f"--{flag} 5").notes if flag in note]
    assert any(key in told for key in ("feature.band_pass", "mel-db", "training.concat_scale"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--metod ce", "did you mean 'method'"),
        ("--method pathcmix", "patchmix_cl"),
        ("--epochs ten", "whole number"),
        ("--epochs", "needs a value"),
        ("--cosine=yes", "takes no value"),
        ("--n_cls 3", "valid: 4, 2"),
        ("--model resnet10 --from_sl_official", "no weights for resnet10"),
        ("--method patchmix_cl --model cnn6", "patch tokens"),
        ("--method patchmix_cl --temperature 0", "tau"),
        ("--eval", "pretrained_ckpt"),
        ("ce", "is no flag"),
        ('--tag "open', "cannot be read"),
    ],
)
def test_bad_commands(flags: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        convert(flags)


# --- the command ---


def test_the_command_prints_a_config_that_trains_as_it_says(run: Run, tmp_path: Path) -> None:
    code, printed, told = run("presets", "from-patchmix", SCRIPTS["icbhi_patchmix_cl"])
    assert code == 0 and parse(yaml.safe_load(printed)) == parse(load_preset("icbhi_patchmix_cl"))
    assert "run it: lungtune train icbhi_patchmix_cl --split official --seed 1" in told
    file = tmp_path / "mine.yaml"
    code, printed, told = run("presets", "from-patchmix", "--out", str(file), "--", "--model", "cnn6", "--epochs", "3")
    assert code == 0 and printed == "" and f"lungtune train {file}" in told
    assert parse(yaml.safe_load(file.read_text())).training.epochs == 3


def test_presets_are_listed_and_shown_whole(run: Run) -> None:
    code, printed, _ = run("presets", "list")
    assert code == 0 and all(name in printed for name in SCRIPTS)
    code, printed, _ = run("presets", "show", "icbhi_ce")
    assert code == 0 and yaml.safe_load(printed) == parse(load_preset("icbhi_ce")).model_dump(mode="json")
    code, _, error = run("presets", "show", "icbhi_cel")
    assert code == 2 and "icbhi_ce" in error
