"""What the reader of a converted Patch-Mix command has to know: what is ignored, and what is done otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from search_spaces.patchmix_flags import BY_NAME, CONTRASTIVE

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
    return _of_flags(given) + _of_unused(flags, given) + ([] if flags.eval else _of_defects(flags, config["model"]))


def _of_flags(given: Mapping[str, Any]) -> list[str]:
    """Of flags that do nothing, that are replaced, and that change something otherwise than in the release."""
    said = []
    for name, value in given.items():
        flag = BY_NAME[name]
        differs = flag.status == "switch" and value != flag.default and name not in WITHOUT_BEING_GIVEN
        if differs or flag.status in {"dead", "replaced"}:
            said.append(f"--{name}: {flag.note}")
    return said


def _of_unused(flags: SimpleNamespace, given: Mapping[str, Any]) -> list[str]:
    """Of flags that mean nothing without another one, neither there nor here."""
    unused: dict[str, tuple[str, ...]] = {}
    if flags.method != "patchmix_cl":
        mixing = ("mix_beta", "time_domain") if flags.method == "ce" else ()
        unused[f"with --method {flags.method}"] = CONTRASTIVE + mixing
    if flags.model != "ssast":
        unused[f"with --model {flags.model}"] = ONLY_SSAST
    else:
        unused["with --model ssast"] = ("from_sl_official",)
    if flags.model not in TRANSFORMERS:
        unused[f"with --model {flags.model}"] += ("audioset_pretrained",)
    if flags.cosine:
        unused["with --cosine"] = ("lr_decay_epochs",)
    if flags.optimizer == "adam":
        unused["with --optimizer adam"] = ("momentum",)
    for needed, names in {
        "ma_update": ("ma_beta",),
        "pretrained": ("pretrained_ckpt",),
        "pretrained_ckpt": ("pretrained",),
    }.items():
        if not getattr(flags, needed):
            unused[f"without --{needed}"] = names
    named = {why: [f"--{name}" for name in names if name in given] for why, names in unused.items()}
    return [f"{', '.join(names)}: not used {why}." for why, names in named.items() if names]


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
