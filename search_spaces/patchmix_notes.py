"""What the reader of a converted Patch-Mix command has to know: what is ignored, and what is done otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from search_spaces.command_line import unused
from search_spaces.patchmix_flags import CONTRASTIVE, TABLE

TRANSFORMERS = ("ast", "ssast")
WARPING = ("LB", "LD", "SM", "SS")
ONLY_SSAST = ("fshape", "tshape", "ssast_task", "ssast_pretrained_type")
WITHOUT_BEING_GIVEN = ("model", "specaug_policy")  # their default differs already: `_of_defects` speaks of it


def notes(flags: SimpleNamespace, given: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A sentence or two each: of the flags in the order given, then of the whole config.

    Args:
        flags: every flag's value.
        given: those that the command has.
        config: what it became.
    """
    said = TABLE.notes(given, said_elsewhere=WITHOUT_BEING_GIVEN) + unused(given, _without_effect(flags))
    return said + ([] if flags.eval else _of_defects(flags, config["model"]))


def _without_effect(flags: SimpleNamespace) -> dict[str, tuple[str, ...]]:
    """Flags that mean nothing without another one, neither there nor here, by what they lack."""
    lacking: dict[str, tuple[str, ...]] = {}
    if flags.method != "patchmix_cl":
        mixing = ("mix_beta", "time_domain") if flags.method == "ce" else ()
        lacking[f"with --method {flags.method}"] = CONTRASTIVE + mixing
    if flags.model != "ssast":
        lacking[f"with --model {flags.model}"] = ONLY_SSAST
    else:
        lacking["with --model ssast"] = ("from_sl_official",)
    if flags.model not in TRANSFORMERS:
        lacking[f"with --model {flags.model}"] += ("audioset_pretrained",)
    if flags.cosine:
        lacking["with --cosine"] = ("lr_decay_epochs",)
    if flags.optimizer == "adam":
        lacking["with --optimizer adam"] = ("momentum",)
    for needed, names in {
        "ma_update": ("ma_beta",),
        "pretrained": ("pretrained_ckpt",),
        "pretrained_ckpt": ("pretrained",),
    }.items():
        if not getattr(flags, needed):
            lacking[f"without --{needed}"] = names
    return lacking


def _of_defects(flags: SimpleNamespace, model: Mapping[str, Any]) -> list[str]:
    """What the release would do and this config does not, with the setting that would."""
    said = []
    if flags.model == "ast" and model.get("pretrained") not in {None, flags.pretrained_ckpt}:
        said.append(
            "The release fits pretrained positions with the axes swapped; here they lie as they were trained "
            "(--set model.pos_embed_layout=seed_compat: as the release)."
        )
        if not flags.from_sl_official:
            said.append("The release refuses --audioset_pretrained with ast where --from_sl_official is missing.")
    if model.get("pretrained_stem") == "random":
        said.append(
            "The first convolution starts untrained, as in the release "
            "(--set model.pretrained_stem=sum: from the published one, summed over colours)."
        )
    if flags.specaug_policy in WARPING:
        said.append(f"Policy {flags.specaug_policy} warps time; the release's spline is not the intended one.")
    said.append(
        "The release compares SpecAugment's probability with a normal draw: 'always' is 84 % of the samples there "
        "(--set augment.gate=seed_compat: as the release)."
    )
    said.append(
        "The release keeps the epoch that scores best on the test side; here the test side chooses none "
        "(--set training.watch_test=true: that Score is reported too)."
    )
    return said
