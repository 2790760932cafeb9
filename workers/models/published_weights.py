"""Published files of pretrained weights: names, training corpora and licences.

Nothing here imports torch, since tables, model cards and command converters ask as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class PublishedWeights:
    """Files that one group of authors publishes.

    Attributes:
        pattern: of the beginning of a file's name; capitals do not matter.
        corpora: what they were trained on, as their authors say.
        licence: as their authors say; None where it is not known.
        files: those that lungtune names itself, by short names.
    """

    pattern: str
    corpora: str
    licence: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


MIT = "MIT (EfficientAT)"
BSD = "BSD-3-Clause (AST, SSAST)"
APACHE = "Apache-2.0 (DINOv2, DeiT)"

PUBLISHED = (
    PublishedWeights(r"audioset_\d+_\d+_", "ImageNet + AudioSet", BSD, {"ast-audioset": "audioset_10_10_0.4593.pth"}),
    PublishedWeights(r"deit_", "ImageNet", APACHE, {"deit": "deit_base_distilled_patch16_384-d0272ac0.pth"}),
    PublishedWeights(
        r"ssast-",
        "AudioSet + LibriSpeech",
        BSD,
        {"ssast-patch": "SSAST-Base-Patch-400.pth", "ssast-frame": "SSAST-Base-Frame-400.pth"},
    ),
    PublishedWeights(r"cnn\d+_(\w+_)?map", "AudioSet", "CC-BY-4.0 (PANNs)", {"cnn6": "Cnn6_mAP=0.343.pth"}),
    PublishedWeights(
        r"resnet\d",
        "ImageNet",
        files={
            "resnet18": "resnet18-f37072fd.pth",
            "resnet34": "resnet34-b627a593.pth",
            "resnet50": "resnet50-0676ba61.pth",
            "resnet101": "resnet101-63fe2227.pth",
        },
    ),
    PublishedWeights(
        r"efficientnet_b",
        "ImageNet",
        files={
            "efficientnet_b0": "efficientnet_b0_rwightman-7f5810bc.pth",
            "efficientnet_b1": "efficientnet_b1_rwightman-bac287d4.pth",
            "efficientnet_b2": "efficientnet_b2_rwightman-c35c1473.pth",
        },
    ),
    PublishedWeights(r"mn\d+_im", "ImageNet"),
    PublishedWeights(r"mn\d+_as_no_im_pre", "AudioSet", MIT),
    PublishedWeights(r"mn\d+_as", "ImageNet + AudioSet", MIT),
    PublishedWeights(r"vit_.*dinov2|dinov2_", "LVD-142M", APACHE),
)

FILES = {short: file for weights in PUBLISHED for short, file in weights.files.items()}
"""Short name of a published file -> its name."""


def published(file: str) -> PublishedWeights | None:
    """What a file of weights is; None where its name is not a published one.

    Args:
        file: its name, or its path with slashes.
    """
    name = PurePosixPath(file).name
    return next((weights for weights in PUBLISHED if re.match(weights.pattern, name, re.IGNORECASE)), None)
