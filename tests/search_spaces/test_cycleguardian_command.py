"""Commands of CycleGuardian's release become configs, and the table of its flags is the page's.

Specified in docs/specification.md, O4, O5.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import UserError
from search_spaces.command_line import MEANING
from search_spaces.cycleguardian_command import convert
from search_spaces.cycleguardian_flags import TABLE
from search_spaces.overrides import override
from search_spaces.presets import load_preset
from tests.search_spaces.test_patchmix_flags import KEYS
from workers.config import ExperimentConfig

PAGE = (Path(__file__).parents[2] / "docs" / "cycleguardian.md").read_text()
README = """python train_lab8_6_3CycleGuardian_specAug.py --data_dir ./data/ICBHI_final_database \\
    --dataset_split_file ./data/patient_trainTest6_4.txt --model_path ./models_out --lr_h 0.001 --lr_l 0.001 \\
    --batch_size 128 --num_worker 15 --start_epochs 0 --epochs 600"""  # docs/specification.md, 3.5
RELEASE: dict[str, Any] = {  # docs/specification.md, 3.6
    "lr_h": 1e-2, "lr_m": 1e-3, "lr_l": 5e-4, "weight_decay": 0.0005, "gpu_ids": "[0]", "num_worker": 4,
    "batch_size": 4, "epochs": 10, "start_epochs": 0, "data_dir": None, "event_dir": "./data/events",
    "split_method": 0, "dataset_split_file": None, "train_dir": None, "test_dir": None, "folds_file": None,
    "test_fold": 4, "aug_scale": None, "specaug_policy": "icbhi_ast_sup", "specaug_mask": "mean",
    "model_path": None, "checkpoint": None, "stetho_id": -1, "annealing_epoch": 50, "proj_dim": 768,
    "negative_pair": "all", "mix_beta": 1.0, "temperature": 0.06, "p_cluster": 1.0, "p_cos_sim": 0.2,
    "p_contra": 0.5, "p_class": 1.0, "target_type": "project_flow",
}  # fmt: skip
IGNORED = {  # marked with a star there
    "lr_m", "lr_l", "weight_decay", "train_dir", "test_dir", "folds_file", "aug_scale", "specaug_policy",
    "specaug_mask", "stetho_id", "annealing_epoch", "proj_dim", "p_class",
}  # fmt: skip
TWO = "python train_lab8_6_3CycleGuardian_2cls.py "


def at(path: str, command: str) -> Any:
    value: Any = ExperimentConfig.parse(convert(command).config).model_dump(mode="json")
    for step in path.split("."):
        value = value[step]
    return value


def said(command: str) -> str:
    return "\n".join(convert(command).notes)


# --- the table ---


@pytest.mark.spec("O4")
def test_every_flag_of_the_release_stands_once_with_its_default() -> None:
    assert {flag.name: flag.default for flag in TABLE.flags} == RELEASE
    assert len(TABLE.flags) == len(RELEASE)
    assert {flag.name for flag in TABLE.flags if flag.status == "dead"} == IGNORED


@pytest.mark.spec("O4")
@pytest.mark.parametrize("flag", TABLE.flags, ids=lambda flag: flag.name)
def test_what_takes_a_flags_place_exists(flag: Any) -> None:
    assert bool(flag.becomes) or flag.status in {"dead", "replaced"}
    for name in flag.becomes:
        assert name in KEYS or name.startswith(("--", "lungtune ", "LUNGTUNE_")), name
    for named in re.findall(r"`([a-z_]+\.[a-z_.]+)", flag.note):
        assert named in KEYS, named


@pytest.mark.spec("O4")
def test_the_page_has_exactly_this_table() -> None:
    assert TABLE.markdown() in PAGE
    assert PAGE.count("\n| `--") == len(TABLE.flags), "and no second one"
    assert all(f"`{status}`: {meaning}" in " ".join(PAGE.split()) for status, meaning in MEANING.items())


# --- commands ---


@pytest.mark.spec("O5")
def test_the_command_of_the_readme_is_the_preset() -> None:
    converted = convert(README)
    config, preset = ExperimentConfig.parse(converted.config), ExperimentConfig.parse(load_preset("cycleguardian"))
    assert config == preset and config.config_hash == preset.config_hash
    assert (converted.seed, converted.split, converted.fold) == (0, "official-patient-test", None)


@pytest.mark.spec("O4")
def test_flags_not_given_have_the_releases_defaults() -> None:
    config = ExperimentConfig.parse(convert("").config)
    assert (config.training.epochs, config.training.batch_size, config.optim.lr) == (10, 4, 0.01)
    assert convert("").config["feature"] == "hybrid-augmented"


@pytest.mark.spec("O4")
@pytest.mark.parametrize(
    ("command", "path", "value"),
    [
        ("--lr_h 0.003", "optim.lr", 0.003),
        ("--weight_decay 0.1", "optim.weight_decay", 0.0),
        ("--batch_size 32", "training.batch_size", 32),
        ("--epochs 7", "training.epochs", 7),
        ("--specaug_policy LB --specaug_mask zero", "augment.policy", "group_sr22k"),
        ("--proj_dim 64", "objective.proj_dim", 128),
        ("--negative_pair diff_label", "objective.negative_pair", "diff_label"),
        ("--mix_beta 0.5", "objective.mix_beta", 0.5),
        ("--mix_beta -1", "objective.mix_beta", 0.0),
        ("--temperature 0.2", "objective.tau", 0.2),
        ("--p_cluster 0.1", "objective.p_cluster", 0.1),
        ("--p_cos_sim 0.3", "objective.p_cos_sim", 0.3),
        ("--p_contra 0.4", "objective.p_contra", 0.4),
        ("--target_type grad_block", "objective.target_type", "grad_block"),
        (TWO, "task", "lungsound2"),
        (TWO, "optim.decay_epochs", [150, 300, 450, 500]),
        ("python elsewhere/train_lab8_6_3CycleGuardian_specAug.py", "optim.decay_epochs", [200, 350, 450, 550]),
    ],
)
def test_a_flag_or_a_script_becomes_a_setting(command: str, path: str, value: Any) -> None:
    assert at(path, command) == value


@pytest.mark.spec("O4")
def test_splits_become_arguments() -> None:
    folds = convert("--split_method 1 --dataset_split_file patient_list_foldwise.txt --test_fold 2")
    assert (folds.split, folds.fold) == ("five-fold", 2)
    assert convert("--split_method 2").fold == 4, "the release's default"
    assert "--test_fold: not used with --split_method 0." in said("--test_fold 2")
    assert "two test patients" in said("") and "two test patients" not in said("--split_method 1")


@pytest.mark.spec("O4")
@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("--lr_l 0.001", "--lr_l: Not read"),
        ("--num_worker 15", "--num_worker: "),
        ("--checkpoint x.pkl", "--checkpoint: "),
        ("--target_type grad_flow", "--target_type: All four work"),
        (TWO, "stops at its first evaluation"),
    ],
)
def test_what_is_ignored_or_differs_is_said(command: str, note: str) -> None:
    assert note in said(command)


@pytest.mark.spec("O4")
def test_the_settings_that_notes_name_bring_the_releases_ways_back() -> None:
    named = re.findall(r"--set ([a-z_.]+=[a-z_]+)", said(""))
    config = ExperimentConfig.parse(override(convert("").config, named))
    assert config.compat == ["objective.cluster_target", "objective.projector"]
    assert config.training.watch_test and config.training.metric == "accuracy"
    assert config.model.model_dump()["codes"] == "raw"


@pytest.mark.spec("O4")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--p_clustr 1", ["CycleGuardian has no flag '--p_clustr'", "did you mean 'p_cluster'?"]),
        ("--target_type both", ["--target_type", "valid: grad_block"]),
        ("--split_method 1 --test_fold 5", ["--test_fold", "valid: 0, 1, 2, 3, 4"]),
        ("--epochs 0", ["training.epochs"]),
    ],
)
def test_what_is_wrong_is_said_with_what_is_right(command: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        convert(command)
    assert all(word in str(caught.value) for word in words), str(caught.value)
