"""A command of CycleGuardian's release as a config of ours; what its flags are is in `cycleguardian_flags`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

from search_spaces.command_line import Converted, unused
from search_spaces.cycleguardian_flags import TABLE

TWO_CLASSES = "train_lab8_6_3CycleGuardian_2cls.py"  # the script decides the classes, and when the rate falls
DECAY_EPOCHS = {"lungsound4": [200, 350, 450, 550], "lungsound2": [150, 300, 450, 500]}


def convert(command_line: str | Sequence[str]) -> Converted:
    """Convert a command, pasted whole or in words. A flag that is not given has the release's default, not ours.

    Args:
        command_line: ``python train_lab8_6_3CycleGuardian_specAug.py --lr_h 0.001 ...``, or only its flags, which are
            then those of the four classes' script; may go over several lines.

    Raises:
        UserError: an unknown flag, with the nearest known; a wrong value, with the valid ones; or what does not fit.
    """
    from workers.config import ExperimentConfig

    command = TABLE.read(command_line)
    flags = command.flags
    two = command.script is not None and PurePath(command.script).name == TWO_CLASSES
    task = "lungsound2" if two else "lungsound4"
    config: dict[str, Any] = {
        "dataset": "icbhi",
        "task": task,
        "feature": "hybrid-augmented",
        "model": {"name": "cycleguardian", "group_frames": 20, "group_step": 15, "clusters": 4},
        "objective": _objective(flags),
        "augment": {"policy": "group_sr22k", "fill": "mean", "roll": 0.5},
        "optim": {
            "name": "adam",
            "lr": flags.lr_h,
            "weight_decay": 0,
            "schedule": "step",
            "decay_rate": 0.33,
            "decay_epochs": DECAY_EPOCHS[task],
        },
        "training": {
            "epochs": flags.epochs,
            "batch_size": flags.batch_size,
            "drop_last": False,
            "precision": "fp32",
            "average": {"name": "ema", "beta": 0.1},
        },
    }
    ExperimentConfig.parse(config, where="the command, converted")
    official = flags.split_method == 0
    return Converted(
        config=config,
        seed=0,
        split="official-patient-test" if official else "five-fold",
        fold=None if official else flags.test_fold,
        evaluation=None,
        notes=_notes(command.given, official=official, two_classes=two),
    )


def _objective(flags: SimpleNamespace) -> dict[str, Any]:
    return {
        "name": "cycleguardian",
        "p_cluster": flags.p_cluster,
        "p_contra": flags.p_contra,
        "p_cos_sim": flags.p_cos_sim,
        "cluster_reduction": "sum",
        "mix_beta": max(0.0, flags.mix_beta),
        "tau": flags.temperature,
        "negative_pair": flags.negative_pair,
        "target_type": flags.target_type,
        "proj_dim": 128,
    }


def _notes(given: Mapping[str, Any], *, official: bool, two_classes: bool) -> list[str]:
    """Of the flags in the order given, then what the release would do and this config does not."""
    said = TABLE.notes(given) + (unused(given, {"with --split_method 0": ("test_fold",)}) if official else [])
    if official:
        said.append(
            "The release trains on 25 recordings of two test patients; here no patient is on both sides "
            "(--split compat-official-patient-expanded: as the release, and never ranked)."
        )
    if two_classes:
        said.append("The release's script of two classes stops at its first evaluation.")
    return [
        *said,
        "The release keeps the epoch with the best accuracy on the test side; here the test side chooses none "
        "(--set training.watch_test=true --set training.metric=accuracy: that epoch is reported too).",
        "The release leaves its projector untrained (--set objective.projector=seed_compat: as the release).",
        "The release lets a gradient through the clustering's target "
        "(--set objective.cluster_target=seed_compat: as the release).",
        "The release compares codes with centres that lie far from them, and begins with nearly all groups in one "
        "cluster (--set model.codes=raw: as the release).",
        "The release sets no seed; here it is 0.",
    ]
