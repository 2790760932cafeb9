"""Configs in a reader's words."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

import pytest

from orchestrator.analysis.labels import describe_model, describe_objective, pretraining
from workers.config import ExperimentConfig, models, objectives
from workers.config.base import Part


@pytest.mark.parametrize(
    ("model", "objective", "labels"),
    [
        ({"name": "cnn6"}, {"name": "ce"}, ("CNN6", "Cross entropy", {})),
        ({"name": "cnn14"}, {"name": "ce"}, ("CNN14", "Cross entropy", {})),
        ({"name": "resnet50"}, {"name": "ce"}, ("ResNet50", "Cross entropy", {})),
        ({"name": "efficientnet_b0"}, {"name": "ce"}, ("EfficientNet B0", "Cross entropy", {})),
        ({"name": "ssast", "size": "small"}, {"name": "ce"}, ("SSAST small", "Cross entropy", {})),
        (
            {"name": "mn", "width": 1.0},
            {"name": "ce", "class_weights": "inverse"},
            ("MobileNet mn10", "Cross entropy", {"weights": "inverse"}),
        ),
        ({"name": "crnn"}, {"name": "ce", "label_smoothing": 0.1}, ("CRNN 64×2", "Cross entropy", {"smoothing": 0.1})),
        (
            {"name": "ast", "size": "tiny", "depth": 4},
            {"name": "patchmix"},
            ("AST tiny, 4 blocks", "Patch-Mix", {"β": 1.0}),
        ),
        (
            {"name": "ast"},
            {"name": "patchmix_cl", "tau": 0.1, "negative_pair": "diff_label"},
            ("AST base", "Patch-Mix CL", {"α": 1.0, "τ": 0.1, "β": 1.0, "negative_pair": "diff_label"}),
        ),
    ],
)
def test_real_configs_are_named_for_people(model: dict, objective: dict, labels: tuple):
    config = ExperimentConfig.parse({"feature": "fbank", "model": model, "objective": objective})
    dump = config.model_dump(mode="json")
    described = describe_objective(dump)
    assert (describe_model(dump, 1).label, described.label, described.settings) == labels


def names(module: ModuleType) -> set[str]:
    """What `name` may be in the configs of a module."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Part)]
    fields = [kind.model_fields["name"] for kind in kinds if "name" in kind.model_fields]
    return {name for field in fields for name in get_args(field.annotation)}


def test_every_model_and_objective_has_a_name_for_people():
    sizes = {"width": 1.0, "size": "base", "hidden": 64, "layers": 2}
    assert len(names(models)) > 10 and len(names(objectives)) > 4
    assert {
        name for name in names(models) if describe_model({"model": {"name": name, **sizes}}, 1).label == name
    } == set()
    assert {
        name for name in names(objectives) if describe_objective({"objective": {"name": name}}).label == name
    } == set()


@pytest.mark.parametrize(
    ("file", "corpora"),
    [
        (None, None),
        ("audioset_10_10_0.4593.pth", "ImageNet + AudioSet"),
        ("weights/deit_base_distilled_patch16_384-d0272ac0.pth", "ImageNet"),
        ("SSAST-Base-Patch-400.pth", "AudioSet + LibriSpeech"),
        ("Cnn6_mAP=0.343.pth", "AudioSet"),
        ("resnet50-0676ba61.pth", "ImageNet"),
        ("efficientnet_b0_rwightman-7f5810bc.pth", "ImageNet"),
        ("mn04_as_mAP_432.pt", "ImageNet + AudioSet"),
        ("mn40_as_no_im_pre_mAP_483.pt", "AudioSet"),
        ("vit_small_patch14_dinov2_fp16.pt", "LVD-142M"),
        ("folder/my-own.pt", "my-own.pt"),
    ],
)
def test_pretraining_is_known_by_the_name_of_the_weights(file: str | None, corpora: str | None):
    assert pretraining({"model": {"pretrained": {"file": file} if file else None}}) == corpora
