"""The table of Patch-Mix' flags against the list in docs/specification.md, 2.8, the config's keys, and the page that
shows it."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from feature_store.errors import UserError
from feature_store.features import NAMED
from search_spaces.command_line import MEANING
from search_spaces.patchmix_command import AUDIOSET, IMAGENET, SSAST
from search_spaces.patchmix_flags import TABLE
from workers.config import ExperimentConfig
from workers.config.part_classes import PartClasses

PAGE = (Path(__file__).parents[2] / "docs" / "patchmix.md").read_text()
OFF = False
RELEASE: dict[str, Any] = {
    # run
    "seed": 0, "print_freq": 10, "save_freq": 100, "save_dir": "./save", "tag": "", "resume": None, "eval": OFF,
    "two_cls_eval": OFF,
    # optimisation
    "optimizer": "adam", "epochs": 400, "learning_rate": 1e-3, "lr_decay_epochs": "120,160", "lr_decay_rate": 0.1,
    "weight_decay": 1e-4, "momentum": 0.9, "cosine": OFF, "warm": OFF, "warm_epochs": 0, "weighted_loss": OFF,
    "mix_beta": 1.0, "time_domain": OFF,
    # data
    "dataset": "icbhi", "data_folder": "./data/", "batch_size": 128, "num_workers": 8, "class_split": "lungsound",
    "n_cls": 4, "test_fold": "official", "weighted_sampler": OFF, "stetho_id": -1, "sample_rate": 16000,
    "butterworth_filter": None, "desired_length": 8, "nfft": 1024, "n_mels": 128, "concat_aug_scale": 0,
    "pad_types": "repeat", "resz": 1, "raw_augment": 0, "blank_region_clip": OFF, "specaug_policy": "icbhi_ast_sup",
    "specaug_mask": "mean",
    # model
    "model": "ast", "pretrained": OFF, "pretrained_ckpt": None, "from_sl_official": OFF, "ma_update": OFF, "ma_beta": 0,
    "audioset_pretrained": OFF, "ssast_task": "ft_avgtok", "fshape": 16, "tshape": 16, "ssast_pretrained_type": "Patch",
    # method
    "method": "ce", "proj_dim": 768, "temperature": 0.06, "alpha": 1.0, "negative_pair": "all",
    "target_type": "grad_block",
}  # fmt: skip


def keys_of(model: Any, path: str = "") -> set[str]:
    """Every dotted key of a model, of all members of its unions and all classes of its parts."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        found: set[str] = set()
        for name, field in model.model_fields.items():
            classes = [one for known in field.metadata if isinstance(known, PartClasses) for one in known.classes]
            found |= {f"{path}{name}"}.union(*(keys_of(one, f"{path}{name}.") for one in (field.annotation, *classes)))
        return found
    return {key for member in typing.get_args(model) for key in keys_of(member, path)}


KEYS = keys_of(ExperimentConfig)


@pytest.mark.spec("O4")
def test_every_flag_of_the_release_stands_once_with_its_default() -> None:
    assert [flag.name for flag in TABLE.flags] == list(RELEASE)
    assert {flag.name: flag.default for flag in TABLE.flags} == RELEASE
    assert {flag.name for flag in TABLE.flags if not flag.takes_value} == {k for k, v in RELEASE.items() if v is OFF}


def test_flags_that_do_nothing_there_are_said_to() -> None:
    dead = {flag.name for flag in TABLE.flags if flag.status == "dead"}
    assert dead == {"butterworth_filter", "nfft", "concat_aug_scale", "warm_epochs"}
    assert {flag.status for flag in TABLE.flags} == set(MEANING)


@pytest.mark.parametrize("flag", TABLE.flags, ids=lambda flag: flag.name)
def test_what_takes_a_flags_place_exists(flag: Any) -> None:
    assert bool(flag.becomes) or flag.status in {"dead", "replaced"}
    for name in flag.becomes:
        assert name in KEYS or name.startswith(("--", "lungtune ")), name
    for named in re.findall(r"`([a-z_]+\.[a-z_.]+)", flag.note):
        assert named in KEYS, named
    for named in re.findall(r"feature `([a-z-]+)`", flag.note):
        assert named in NAMED, named


def test_keys_are_found_in_unions_and_nested_parts() -> None:
    assert {"objective.tau", "model.pretrained", "training.average.beta", "feature.n_fft", "devices"} <= KEYS
    assert "objective.temperature" not in KEYS


@pytest.mark.parametrize("flag", [flag for flag in TABLE.flags if flag.takes_value and flag.default is not None])
def test_a_default_is_read_from_its_text(flag: Any) -> None:
    assert flag.read(str(flag.default)) == flag.default
    assert type(flag.read(str(flag.default))) is flag.kind


def test_a_wrong_value_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="valid: repeat, zero, aug") as caught:
        TABLE.by_name["pad_types"].read("stretch")
    assert caught.value.where == "--pad_types"
    with pytest.raises(UserError, match="'ten' is not a whole number"):
        TABLE.by_name["epochs"].read("ten")
    with pytest.raises(UserError, match="'1,5' is not a number"):
        TABLE.by_name["alpha"].read("1,5")
    with pytest.raises(UserError, match="shell variable"):
        TABLE.by_name["model"].read("$m")


@pytest.mark.spec("O4")
def test_the_page_has_exactly_this_table() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(("| flag | default", "| `--"))]
    shown = [line for line in rows if line.count("|") == 6]
    assert TABLE.markdown() in PAGE
    assert len(shown) == len(TABLE.flags) + 1, "and no second one"


def test_the_page_names_every_pretrained_file_every_defect_and_every_status() -> None:
    for file in (AUDIOSET, *IMAGENET.values(), *(file for file, _ in SSAST.values())):
        assert f"`{file}`" in PAGE, file
    rows = re.findall(r"^\| ([\d, ]+) [a-zA-Z`]", PAGE.split("## Its defects")[1], flags=re.MULTILINE)
    assert sorted(int(number) for row in rows for number in row.split(",")) == list(range(1, 24)), "specification, 2.9"
    for key in re.findall(r"`(?:--set )?((?:model|augment|training|feature|objective|optim)\.[a-z_.]+)", PAGE):
        assert key in KEYS, key
    assert all(f"`{status}`: {meaning}" in PAGE for status, meaning in MEANING.items())


def test_image_files_are_those_that_torchvision_publishes() -> None:
    from torchvision.models import get_model_weights

    for name, file in IMAGENET.items():
        if name.startswith(("resnet", "efficientnet")):
            published = [weights.url.rsplit("/", 1)[1] for weights in get_model_weights(name)]
            assert published[0] == file, "IMAGENET1K_V1, which the release loads"


def test_the_deit_file_is_the_one_that_timm_publishes() -> None:
    from timm.models import get_pretrained_cfg

    published = get_pretrained_cfg("deit_base_distilled_patch16_384")
    assert published is not None and str(published.url).endswith(IMAGENET["ast"])
