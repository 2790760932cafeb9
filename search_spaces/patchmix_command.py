"""A command of Patch-Mix' release as a config of ours; what its flags are is in `patchmix_flags`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from feature_store.errors import UserError
from search_spaces.command_line import Converted, valid
from search_spaces.patchmix_flags import CONTRASTIVE, TABLE
from search_spaces.patchmix_notes import notes
from workers.models.published_weights import FILES

DEVICES = ("Meditron", "LittC2SE", "Litt3200", "AKGC417L")
TASKS = {
    ("lungsound", 4): "lungsound4",
    ("lungsound", 2): "lungsound2",
    ("diagnosis", 3): "diagnosis3",
    ("diagnosis", 2): "diagnosis2",
}
WARM_EPOCHS = 10  # what --warm sets, whatever --warm_epochs says
SENSITIVITY = 5  # percent that an epoch needs before it can be chosen
IMAGENET = {  # by our models' names
    "ast": FILES["deit"],
    "cnn6": FILES["cnn6"],  # AudioSet, under the flag that means ImageNet for the others
    **{name: FILES[name] for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    **{name: FILES[name] for name in ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2")},
}
AUDIOSET = FILES["ast-audioset"]
SSAST = {"Patch": (FILES["ssast-patch"], (16, 16)), "Frame": (FILES["ssast-frame"], (128, 2))}


def convert(command_line: str | Sequence[str]) -> Converted:
    """Convert a command, pasted whole or in words. A flag that is not given has the release's default, not ours.

    Args:
        command_line: ``python main.py --tag x --method patchmix_cl ...``, or only its flags; may go over several lines.

    Raises:
        UserError: an unknown flag, with the nearest known; a wrong value, with the valid ones; or what does not fit.
    """
    from workers.config import ExperimentConfig

    command = TABLE.read(command_line)
    flags = command.flags
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
        notes=notes(flags, command.given, config),
    )


def _task(flags: SimpleNamespace) -> str:
    if (flags.class_split, flags.n_cls) not in TASKS:
        counts = [n for split, n in TASKS if split == flags.class_split]
        raise UserError(f"{flags.class_split} has no {flags.n_cls} classes", where="--n_cls", hint=valid(counts))
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
