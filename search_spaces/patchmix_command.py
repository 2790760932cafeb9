"""A command of Patch-Mix' release as a config of ours; what its flags are is in `patchmix_flags`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from feature_store.errors import UserError, nearest
from search_spaces.patchmix_flags import BY_NAME, CONTRASTIVE, FLAGS
from search_spaces.patchmix_notes import notes

DEVICES = ("Meditron", "LittC2SE", "Litt3200", "AKGC417L")
TASKS = {
    ("lungsound", 4): "lungsound4",
    ("lungsound", 2): "lungsound2",
    ("diagnosis", 3): "diagnosis3",
    ("diagnosis", 2): "diagnosis2",
}
WARM_EPOCHS = 10  # what --warm sets, whatever --warm_epochs says
SENSITIVITY = 5  # percent that an epoch needs before it can be chosen
IMAGENET = {
    "ast": "deit_base_distilled_patch16_384-d0272ac0.pth",
    "cnn6": "Cnn6_mAP=0.343.pth",  # AudioSet, under the flag that means ImageNet for the others
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "efficientnet_b0": "efficientnet_b0_rwightman-7f5810bc.pth",
    "efficientnet_b1": "efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b2": "efficientnet_b2_rwightman-c35c1473.pth",
}
AUDIOSET = "audioset_10_10_0.4593.pth"
SSAST = {"Patch": ("SSAST-Base-Patch-400.pth", (16, 16)), "Frame": ("SSAST-Base-Frame-400.pth", (128, 2))}


@dataclass(frozen=True)
class Converted:
    """A command of the release in our terms.

    Attributes:
        config: a plain mapping that `ExperimentConfig.parse` accepts.
        seed: of the training.
        split: to train and test on.
        fold: of the split; None where it has but one.
        evaluation: a checkpoint to score in place of training.
        notes: what a reader has to know, a sentence or two each.
    """

    config: dict[str, Any]
    seed: int
    split: str
    fold: int | None
    evaluation: str | None
    notes: list[str]


def convert(command_line: str | Sequence[str]) -> Converted:
    """Convert a command, pasted whole or in words. A flag that is not given has the release's default, not ours.

    Args:
        command_line: ``python main.py --tag x --method patchmix_cl ...``, or only its flags; may go over several lines.

    Raises:
        UserError: an unknown flag, with the nearest known; a wrong value, with the valid ones; or what does not fit.
    """
    from workers.config import ExperimentConfig

    given = _given(_words(command_line))
    flags = SimpleNamespace(**{flag.name: given.get(flag.name, flag.default) for flag in FLAGS})
    if flags.eval and not (flags.pretrained and flags.pretrained_ckpt):
        hint = "add --pretrained --pretrained_ckpt FILE"
        raise UserError("scores an untrained network without a checkpoint", where="--eval", hint=hint)
    config: dict[str, Any] = {
        "dataset": flags.dataset,
        "task": _task(flags),
        **({"devices": [DEVICES[flags.stetho_id]]} if flags.stetho_id >= 0 else {}),
        "feature": _feature(flags),
        "model": _model(flags),
        "objective": _objective(flags),
        "augment": {"policy": flags.specaug_policy, "fill": flags.specaug_mask},
        "optim": _optim(flags),
        "training": _training(flags),
    }
    ExperimentConfig.parse(config, where="the command, converted")
    official = flags.test_fold == "official"
    return Converted(
        config=config,
        seed=flags.seed,
        split="official" if official else "five-fold",
        fold=None if official else int(flags.test_fold),
        evaluation=flags.pretrained_ckpt if flags.eval else None,
        notes=notes(flags, given, config),
    )


# --- reading the command ---


def _words(command_line: str | Sequence[str]) -> list[str]:
    """The command's words from its first flag on."""
    if isinstance(command_line, str):
        try:
            words = shlex.split(re.sub(r"\\\s*\n", " ", command_line), comments=True)
        except ValueError as error:
            raise UserError(f"cannot be read: {str(error).lower()}", where="the command") from error
    else:
        words = [word for word in command_line if word.strip() not in {"", "\\"}]
    scripts = [place for place, word in enumerate(words) if word.endswith(".py")]
    return words[scripts[0] + 1 :] if scripts else words


def _given(words: list[str]) -> dict[str, Any]:
    """The flags that are there and their values; of a flag given twice, the last."""
    given: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, has_value, text = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise UserError(f"'{word}' is no flag and the value of none", where="the command")
        if name not in BY_NAME:
            raise UserError(f"Patch-Mix has no flag '--{name}'", where="the command", hint=nearest(name, BY_NAME))
        flag = BY_NAME[name]
        if not flag.takes_value:
            if has_value:
                raise UserError(f"takes no value, not '{text}'", where=f"--{name}")
            given[name] = True
            continue
        value = text if has_value else next(rest, None)
        if value is None or value.startswith("--"):
            raise UserError("needs a value", where=f"--{name}", hint=_valid(flag.choices))
        given[name] = flag.read(value)
    return given


def _valid(values: Sequence[Any]) -> str | None:
    return f"valid: {', '.join(map(str, values))}" if values else None


# --- parts of the config ---


def _task(flags: SimpleNamespace) -> str:
    if (flags.class_split, flags.n_cls) not in TASKS:
        counts = [n for split, n in TASKS if split == flags.class_split]
        raise UserError(f"{flags.class_split} has no {flags.n_cls} classes", where="--n_cls", hint=_valid(counts))
    return TASKS[flags.class_split, flags.n_cls]


def _feature(flags: SimpleNamespace) -> str | dict[str, Any]:
    """Short where it is the one that Patch-Mix computes by default."""
    given = {
        "sample_rate": flags.sample_rate,
        "seconds": flags.desired_length,
        "n_mels": flags.n_mels,
        "pad": "augment" if flags.pad_types == "aug" else flags.pad_types,
        "copies": flags.raw_augment,
        "clip_blank": flags.blank_region_clip,
    }
    default = {"sample_rate": 16000, "seconds": 8, "n_mels": 128, "pad": "repeat", "copies": 0, "clip_blank": False}
    other = {key: value for key, value in given.items() if value != default[key]}
    return {"kind": "fbank", **other} if other else "fbank"


def _model(flags: SimpleNamespace) -> dict[str, Any]:
    model: dict[str, Any] = {"name": flags.model}
    if flags.model in {"ast", "ssast"}:
        model |= {"size": "base", "stride": 10}
    if flags.model == "ast":
        model["patch"] = 16
    if flags.model == "ssast":
        pool = flags.ssast_task.removeprefix("ft_")
        model |= {"patch_bins": flags.fshape, "patch_frames": flags.tshape, "pool": pool}
    if flags.resz != 1:
        model["resize"] = flags.resz
    if flags.pretrained and flags.pretrained_ckpt and not flags.eval:
        return {**model, "pretrained": flags.pretrained_ckpt}
    if file := _published(flags):
        model["pretrained"] = file
        if flags.model.startswith(("resnet", "efficientnet")):  # the release throws their first convolution away
            model["pretrained_stem"] = "random"
    return model


def _published(flags: SimpleNamespace) -> str | None:
    """The file of published weights that the network starts from."""
    if flags.model == "ssast":
        file, shape = SSAST[flags.ssast_pretrained_type]
        if flags.audioset_pretrained and (flags.fshape, flags.tshape) != shape:
            raise UserError(
                f"patches of {flags.fshape} x {flags.tshape} do not fit the checkpoint {file}",
                where="--fshape, --tshape",
                hint=f"give --fshape {shape[0]} --tshape {shape[1]}",
            )
        return file if flags.audioset_pretrained else None
    if flags.model == "ast" and flags.audioset_pretrained:
        return AUDIOSET
    if flags.from_sl_official and flags.model not in IMAGENET:
        hint = f"it has them for {', '.join(IMAGENET)}"
        raise UserError(f"the release has no weights for {flags.model}", where="--from_sl_official", hint=hint)
    return IMAGENET[flags.model] if flags.from_sl_official else None


def _objective(flags: SimpleNamespace) -> dict[str, Any]:
    objective: dict[str, Any] = {"name": flags.method}
    if flags.weighted_loss:
        objective["class_weights"] = "inverse"
    if flags.method != "ce":
        objective |= {"mix_beta": max(0.0, flags.mix_beta), "domain": "time" if flags.time_domain else "patch"}
    if flags.method == "patchmix_cl":
        objective |= {"tau" if name == "temperature" else name: getattr(flags, name) for name in CONTRASTIVE}
    return objective


def _optim(flags: SimpleNamespace) -> dict[str, Any]:
    optim: dict[str, Any] = {
        "name": flags.optimizer,
        "lr": flags.learning_rate,
        "weight_decay": flags.weight_decay,
        "schedule": "cosine" if flags.cosine else "step",
        "decay_rate": flags.lr_decay_rate,
    }
    if flags.optimizer == "sgd":
        optim["momentum"] = flags.momentum
    if not flags.cosine:
        optim["decay_epochs"] = _epochs(flags.lr_decay_epochs)
    if flags.warm:
        optim["warmup_epochs"] = WARM_EPOCHS
    return optim


def _epochs(text: str) -> list[int]:
    try:
        return [int(epoch) for epoch in text.split(",")]
    except ValueError as error:
        hint = "epochs with commas between them, such as 120,160"
        raise UserError(f"'{text}' is no list of epochs", where="--lr_decay_epochs", hint=hint) from error


def _training(flags: SimpleNamespace) -> dict[str, Any]:
    training: dict[str, Any] = {"epochs": flags.epochs, "batch_size": flags.batch_size}
    if flags.weighted_sampler:
        training["sampler"] = "weighted"
    if flags.ma_update:
        training["average"] = {"name": "live_blend", "beta": flags.ma_beta}
    if flags.two_cls_eval:
        training["metric"] = "icbhi2"
    return {**training, "min_sensitivity": SENSITIVITY}
