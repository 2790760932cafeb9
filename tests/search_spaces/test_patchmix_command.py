"""Commands of Patch-Mix' release become configs: the published ones the presets, any other flag by flag."""

from __future__ import annotations

from typing import Any

import pytest

from feature_store.errors import UserError
from search_spaces.patchmix_command import convert
from search_spaces.presets import load_preset
from workers.config import ExperimentConfig

SCRIPT = """python main.py --tag {tag} \\
    --dataset icbhi --seed 1 --class_split lungsound --n_cls 4 --epochs 50 --batch_size 8 \\
    --optimizer adam --learning_rate 5e-5 --weight_decay 1e-6 --cosine --model ast --test_fold official \\
    --pad_types repeat --resz 1 --n_mels 128 --ma_update --ma_beta 0.5 --from_sl_official --audioset_pretrained \\
    """
SCRIPTS = {  # docs/specification.md, 2.7
    "icbhi_ce": SCRIPT + "--weighted_loss --method ce",
    "icbhi_patchmix": SCRIPT + "--method patchmix --mix_beta 1.0",
    "icbhi_patchmix_cl": SCRIPT + "--method patchmix_cl --temperature 0.06 --proj_dim 768 --alpha 1.0 --mix_beta 1.0",
}


def at(path: str, command: str) -> Any:
    value: Any = ExperimentConfig.parse(convert(command).config).model_dump(mode="json")
    for step in path.split("."):
        value = value[step]
    return value


def refused(command: str) -> str:
    with pytest.raises(UserError) as caught:
        convert(command)
    return str(caught.value)


def said(command: str) -> str:
    return "\n".join(convert(command).notes)


@pytest.mark.spec("O5")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_published_script_is_its_preset(name: str) -> None:
    converted = convert(SCRIPTS[name].replace("{tag}", "bs8_lr5e-5"))
    config, preset = ExperimentConfig.parse(converted.config), ExperimentConfig.parse(load_preset(name))
    assert config == preset and config.config_hash == preset.config_hash
    assert (converted.seed, converted.split, converted.fold, converted.evaluation) == (1, "official", None, None)


def test_flags_not_given_have_the_releases_defaults() -> None:
    config = ExperimentConfig.parse(convert("").config)
    assert (config.training.epochs, config.training.batch_size) == (400, 128)
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adam", 1e-3, 1e-4)
    assert (config.optim.schedule, config.optim.decay_epochs, config.optim.decay_rate) == ("step", (120, 160), 0.1)
    assert config.optim.warmup_epochs == 0 and config.training.average.name == "none"
    assert config.objective.name == "ce" and config.objective.class_weights == "none"
    assert config.model.name == "ast" and config.model.pretrained is None
    assert (config.augment.policy, config.augment.fill) == ("icbhi_ast_sup", "mean")
    assert convert("").config["feature"] == "fbank" and convert("").seed == 0


CL = "--method patchmix_cl "
BECOMES = [
    ("--optimizer sgd --momentum 0.8", "optim.momentum", 0.8),
    ("--optimizer sgd", "optim.name", "sgd"),
    ("--cosine", "optim.schedule", "cosine"),
    ("--lr_decay_epochs 10,20 --lr_decay_rate 0.5", "optim.decay_epochs", [10, 20]),
    ("--lr_decay_rate 0.5 --cosine", "optim.decay_rate", 0.5),
    ("--warm --warm_epochs 3", "optim.warmup_epochs", 10),
    ("--weighted_loss", "objective.class_weights", "inverse"),
    ("--weighted_loss --method patchmix", "objective.class_weights", "inverse"),
    ("--weighted_sampler", "training.sampler", "weighted"),
    ("--two_cls_eval", "training.metric", "icbhi2"),
    ("--ma_update --ma_beta 0.9", "training.average", {"name": "live_blend", "beta": 0.9}),
    ("--ma_beta 0.9", "training.average.name", "none"),
    ("--n_cls 2", "task", "lungsound2"),
    ("--class_split diagnosis --n_cls 3", "task", "diagnosis3"),
    ("--class_split diagnosis --n_cls 2", "task", "diagnosis2"),
    ("--stetho_id 0", "devices", ["Meditron"]),
    ("--stetho_id 1", "devices", ["LittC2SE"]),
    ("--stetho_id 2", "devices", ["Litt3200"]),
    ("--stetho_id=3", "devices", ["AKGC417L"]),
    ("--stetho_id -1", "devices", None),
    ("--desired_length 5", "feature.seconds", 5.0),
    ("--n_mels 64", "feature.n_mels", 64),
    ("--sample_rate 8000", "feature.sample_rate", 8000),
    ("--pad_types aug", "feature.pad", "augment"),
    ("--pad_types zero", "feature.pad", "zero"),
    ("--raw_augment 2", "feature.copies", 2),
    ("--blank_region_clip", "feature.clip_blank", True),
    ("--resz 0.5", "model.resize", 0.5),
    ("--specaug_policy SM --specaug_mask zero", "augment.policy", "SM"),
    ("--specaug_mask zero", "augment.fill", "zero"),
    ("--model cnn6 --from_sl_official", "model.pretrained.file", "Cnn6_mAP=0.343.pth"),
    ("--model resnet18 --from_sl_official", "model.pretrained.file", "resnet18-f37072fd.pth"),
    ("--model resnet18 --from_sl_official", "model.pretrained_stem", "random"),
    ("--model resnet50", "model.pretrained", None),
    ("--model efficientnet_b0 --audioset_pretrained", "model.pretrained", None),
    ("--from_sl_official", "model.pretrained.file", "deit_base_distilled_patch16_384-d0272ac0.pth"),
    ("--model ssast", "model.pretrained", None),
    ("--model ssast --audioset_pretrained", "model.pretrained.file", "SSAST-Base-Patch-400.pth"),
    (
        "--model ssast --audioset_pretrained --ssast_pretrained_type Frame --fshape 128 --tshape 2",
        "model.pretrained.file",
        "SSAST-Base-Frame-400.pth",
    ),
    ("--model ssast --fshape 128 --tshape 2", "model.patch_frames", 2),
    ("--model ssast --fshape 128 --tshape 2", "model.patch_bins", 128),
    ("--model ssast --ssast_task ft_cls", "model.pool", "cls"),
    ("--model ssast", "model.pool", "avgtok"),
    ("--pretrained --pretrained_ckpt best.pth --from_sl_official", "model.pretrained.file", "best.pth"),
    (CL, "objective.tau", 0.06),
    (CL + "--temperature 0.1", "objective.tau", 0.1),
    (CL + "--alpha 0.3", "objective.alpha", 0.3),
    (CL + "--proj_dim 256 --target_type project_flow", "objective.proj_dim", 256),
    (CL + "--target_type project_flow", "objective.target_type", "project_flow"),
    (CL + "--negative_pair diff_label", "objective.negative_pair", "diff_label"),
    (CL + "--mix_beta 0.5", "objective.mix_beta", 0.5),
    ("--method patchmix --mix_beta -1", "objective.mix_beta", 0.0),
    ("--method patchmix --time_domain", "objective.domain", "time"),
    ("--epochs 3 --epochs 4", "training.epochs", 4),
]


@pytest.mark.spec("O4")
@pytest.mark.parametrize(("command", "path", "value"), BECOMES)
def test_a_flag_becomes_a_setting(command: str, path: str, value: Any) -> None:
    assert at(path, command) == value


def test_folds_and_checkpoints_become_arguments() -> None:
    converted = convert("--test_fold 3 --seed 7")
    assert (converted.split, converted.fold, converted.seed) == ("five-fold", 3, 7)
    converted = convert("--eval --pretrained --pretrained_ckpt save/best.pth")
    assert converted.evaluation == "save/best.pth" and "pretrained" not in converted.config["model"]
    assert "test side chooses" not in "\n".join(converted.notes), "nothing is trained"
    assert "--pretrained_ckpt FILE" in refused("--eval --pretrained")


def test_a_command_is_read_as_a_shell_reads_it() -> None:
    pasted = "CUDA_VISIBLE_DEVICES=0 python ./main.py --tag 'a b' \\\n  --epochs=5 \\  \n --method patchmix  # the end"
    in_words = ["python", "main.py", "--tag", "a b", "--epochs", "5", "--method", "patchmix"]
    assert convert(pasted) == convert(in_words) == convert(in_words[2:])
    assert "no closing quotation" in refused("--tag 'a")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--alhpa 1", ["no flag '--alhpa'", "did you mean 'alpha'?"]),
        ("--method simclr", ["--method", "valid: ce, patchmix, patchmix_cl"]),
        ("--test_fold 5", ["--test_fold", "valid: official, 0, 1, 2, 3, 4"]),
        ("--stetho_id 4", ["--stetho_id", "valid: -1, 0, 1, 2, 3"]),
        ("--n_cls 3", ["--n_cls", "valid: 4, 2"]),
        ("--class_split diagnosis", ["--n_cls", "valid: 3, 2"]),
        ("--epochs", ["--epochs", "needs a value"]),
        ("--model --cosine", ["--model", "needs a value", "ssast"]),
        ("--cosine=1", ["--cosine", "takes no value"]),
        ("cosine", ["'cosine' is no flag"]),
        ("--cosine yes", ["'yes' is no flag"]),
        ("--lr_decay_epochs 10;20", ["--lr_decay_epochs", "120,160"]),
        ("--seed $s", ["'$s'", "shell variable"]),
        ("--method patchmix --model cnn6", ["mixes patch tokens"]),
        ("--warm --epochs 8", ["optim.warmup_epochs", "10 epochs"]),
        ("--ma_update --ma_beta 1", ["training.average.beta"]),
        ("--model resnet10 --from_sl_official", ["--from_sl_official", "no weights for resnet10", "resnet18"]),
        (
            "--model ssast --audioset_pretrained --ssast_pretrained_type Frame",
            ["SSAST-Base-Frame-400.pth", "--fshape 128 --tshape 2"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(command: str, words: list[str]) -> None:
    message = refused(command)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("--nfft 512", "--nfft: "),
        ("--butterworth_filter 3", "band_pass: [200, 1800]"),
        ("--concat_aug_scale 1", "training.concat_scale"),
        ("--warm_epochs 5", "--warm_epochs: "),
        ("--tag x", "--tag: "),
        ("--resume last.pth", "--resume: "),
        ("--pad_types aug", "feature.pad=stretch"),
        ("--raw_augment 1", "--raw_augment: "),
        ("--time_domain --method patchmix", "--time_domain: "),
        ("--model resnet34 --from_sl_official", "model.pretrained_stem=sum"),
        ("--audioset_pretrained", "refuses --audioset_pretrained"),
        ("--from_sl_official", "model.pos_embed_layout=seed_compat"),
        ("--specaug_policy LB", "spline"),
        ("", "augment.gate=seed_compat"),
        ("", "training.watch_test=true"),
        ("--alpha 1 --mix_beta 1", "--alpha, --mix_beta: not used with --method ce"),
        ("--method patchmix --temperature 1", "--temperature: not used with --method patchmix"),
        ("--fshape 16", "--fshape: not used with --model ast"),
        ("--model cnn6 --audioset_pretrained", "--audioset_pretrained: not used with --model cnn6"),
        ("--model ssast --from_sl_official", "--from_sl_official: not used with --model ssast"),
        ("--ma_beta 0.5", "--ma_beta: not used without --ma_update"),
        ("--pretrained_ckpt best.pth", "--pretrained_ckpt: not used without --pretrained"),
        ("--cosine --lr_decay_epochs 1,2", "--lr_decay_epochs: not used with --cosine"),
        ("--momentum 0.5", "--momentum: not used with --optimizer adam"),
    ],
)
def test_what_is_ignored_or_differs_is_said(command: str, note: str) -> None:
    assert note in said(command)


def test_what_means_the_same_needs_no_note() -> None:
    notes = convert("--model ast --epochs 50 --pad_types repeat --n_mels 128 --specaug_policy icbhi_sup --seed 1").notes
    assert len(notes) == 2, "the gate and the choice of the epoch, which differ in every training"
    positions = "axes swapped"
    assert positions in said("--audioset_pretrained --from_sl_official")
    assert positions not in said("") and positions not in said("--pretrained --pretrained_ckpt best.pth")


def test_settings_that_notes_name_can_be_set() -> None:
    from search_spaces.overrides import override

    command = "--from_sl_official --model ast --pad_types aug"
    sets = ["feature.pad=stretch", "augment.gate=seed_compat", "model.pos_embed_layout=seed_compat"]
    assert len(ExperimentConfig.parse(override(convert(command).config, sets)).compat) == 3
    stem = override(convert("--model resnet18 --from_sl_official").config, ["model.pretrained_stem=sum"])
    assert ExperimentConfig.parse(stem).model.model_dump()["pretrained_stem"] == "sum"
    band = override(convert("").config, ["feature={kind: fbank, band_pass: [200, 1800]}", "training.concat_scale=1"])
    assert ExperimentConfig.parse(band).feature.band_pass == (200, 1800)
