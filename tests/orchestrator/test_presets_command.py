"""`lungtune presets`: what it prints where, and that its output is a config again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from feature_store.yaml_files import read_yaml
from search_spaces.presets import load_preset, preset_names
from tests.conftest import Run
from workers.config import ExperimentConfig

PUBLISHED = (
    "python main.py --seed 1 --epochs 50 --batch_size 8 --learning_rate 5e-5 --weight_decay 1e-6 --cosine --model ast "
    "--ma_update --ma_beta 0.5 --from_sl_official --audioset_pretrained --method patchmix_cl"
)


def test_the_list_names_every_preset_with_its_objective(run: Run) -> None:
    code, printed, _ = run("presets", "list")
    assert code == 0
    for name in preset_names():
        row = next(line for line in printed.splitlines() if f" {name} " in line)
        assert all(f" {load_preset(name)[part]['name']} " in row for part in ("objective", "model"))


def test_a_preset_is_shown_with_every_default_and_can_be_read_back(run: Run, tmp_path: Path) -> None:
    code, printed, _ = run("presets", "show", "icbhi_patchmix_cl")
    assert code == 0
    content = yaml.safe_load(printed)
    preset = ExperimentConfig.parse(load_preset("icbhi_patchmix_cl"))
    assert content == preset.model_dump(mode="json") and "momentum" in content["optim"]
    shown = tmp_path / "shown.yaml"
    shown.write_text(printed)
    assert ExperimentConfig.parse(read_yaml(shown)) == preset
    code, _, error = run("presets", "show", "icbhi_patchmixcl")
    assert code == 2 and "did you mean 'icbhi_patchmix_cl'?" in error


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["plain", "after --"])
def test_flags_pass_through_in_words_and_in_quotes(separator: list[str], run: Run) -> None:
    code, in_words, _ = run("presets", "from-patchmix", *separator, *PUBLISHED.split())
    assert code == 0
    code, quoted, error = run("presets", "from-patchmix", *separator, PUBLISHED)
    assert code == 0 and in_words == quoted
    config = ExperimentConfig.parse(yaml.safe_load(quoted))
    assert config == ExperimentConfig.parse(load_preset("icbhi_patchmix_cl"))
    assert "# - The release keeps the epoch" in quoted
    assert "run it: lungtune train icbhi_patchmix_cl --split official --seed 1" in error


def test_a_config_is_written_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    flags = ["--method", "ce", "--stetho_id", "-1", "--test_fold", "2", "--seed", "3"]
    code, printed, error = run("presets", "from-patchmix", "--out", str(target), "--", *flags)
    assert code == 0 and printed == ""
    assert f"lungtune train {target} --split five-fold --fold 2 --seed 3" in error
    assert ExperimentConfig.parse(read_yaml(target)).training.epochs == 400
    code, _, error = run("presets", "from-patchmix", "--out", str(tmp_path / "none" / "x.yaml"), "--", *flags)
    assert code == 2 and "cannot be written" in error


def test_an_evaluation_becomes_one(run: Run) -> None:
    flags = ["--eval", "--pretrained", "--pretrained_ckpt", "my runs/best.pth"]
    code, _, error = run("presets", "from-patchmix", *flags)
    assert code == 0
    assert "lungtune evaluate --config config.yaml --weights 'my runs/best.pth' --split official" in error


def test_bad_flags_end_with_two_and_name_the_nearest(run: Run) -> None:
    code, printed, error = run("presets", "from-patchmix", "--", "--methd", "ce")
    assert (code, printed) == (2, "") and "did you mean 'method'?" in error
    code, printed, error = run("presets", "from-patchmix", "--method", "mixup")
    assert (code, printed) == (2, "") and "valid: ce, patchmix, patchmix_cl" in error


@pytest.mark.parametrize("command", ["list", "show", "from-patchmix", "from-cycleguardian"])
def test_help_shows_an_example(command: str, run: Run) -> None:
    code, printed, _ = run("presets", command, "--help")
    assert code == 0 and f"Example: lungtune presets {command}" in " ".join(printed.split())
