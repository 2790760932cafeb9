"""Files of published layouts, made here: every entry finds its place, or is reported as left over."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.support.pretrained_files import audioset_state, deit_state, saved, ssast_state, tiny_ast, tiny_ssast
from workers.config.models import CnnConfig, EfficientNetConfig, ModelConfig, ResNetConfig
from workers.models import build_model
from workers.models.load_report import LoadReport
from workers.models.pretrained import load_pretrained


@pytest.mark.spec("M2")
def test_a_deit_file_fills_the_backbone_and_leaves_its_heads(tmp_path: Path) -> None:
    state = deit_state(depth=3)
    model = tiny_ast()
    report = load_pretrained(model.backbone, saved({"model": state}, tmp_path / "deit.pth"))
    heads = {f"{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}
    deeper = {name for name in state if name.startswith("blocks.2.")}
    assert set(report.left_over) == heads | deeper
    assert report.missing == []
    assert set(report.used) | set(report.adapted) == set(model.backbone.state_dict())
    own = model.backbone.state_dict()
    for name in ("cls_token", "dist_token", "norm.weight", "blocks.1.attn.qkv.weight", "blocks.0.mlp.fc2.bias"):
        assert torch.equal(own[name], state[name]), name
    torch.testing.assert_close(own["patch_embed.weight"], state["patch_embed.proj.weight"].sum(dim=1, keepdim=True))
    assert torch.equal(own["patch_embed.bias"], state["patch_embed.proj.bias"])
    assert torch.equal(own["pos_embed"][:, :2], state["pos_embed"][:, :2])


@pytest.mark.spec("M2")
def test_an_audioset_ast_file_fills_the_backbone_and_leaves_its_head(tmp_path: Path) -> None:
    state = audioset_state()
    model = tiny_ast((798, 128))
    report = load_pretrained(model.backbone, saved(state, tmp_path / "audioset.pth"))
    assert report.missing == []
    assert set(report.used) | set(report.adapted) == set(model.backbone.state_dict())
    bare = {re.sub(r"^(module\.)?(v\.)?", "", name) for name in report.left_over}
    assert bare == {
        f"{head}.{part}" for head in ("head", "head_dist", "mlp_head.0", "mlp_head.1") for part in ("weight", "bias")
    }
    own = model.backbone.state_dict()
    assert torch.equal(own["patch_embed.weight"], state["module.v.patch_embed.proj.weight"])
    assert torch.equal(own["blocks.1.mlp.fc1.weight"], state["module.v.blocks.1.mlp.fc1.weight"])
    table = state["module.v.pos_embed"][0, 2:].reshape(12, 101, 192)
    assert torch.equal(own["pos_embed"][0, 2:].reshape(12, 79, 192), table[:, 11:90])  # cut around the middle


@pytest.mark.spec("M6")
@pytest.mark.parametrize(("name", "convolutions"), [("cnn6", 1), ("cnn10", 2)])
def test_a_panns_file_fills_the_backbone_and_leaves_its_front_end(name: Any, convolutions: int, tmp_path: Path) -> None:
    torch.manual_seed(2)
    trunk: dict[str, Tensor] = {}
    channels = (1, 64, 128, 256, 512)
    kernel = 5 if convolutions == 1 else 3
    for block in range(1, 5):
        for index in range(1, convolutions + 1):
            inputs = channels[block - 1] if index == 1 else channels[block]
            trunk[f"conv_block{block}.conv{index}.weight"] = torch.randn(channels[block], inputs, kernel, kernel)
            for part in ("weight", "bias", "running_mean", "running_var"):
                trunk[f"conv_block{block}.bn{index}.{part}"] = torch.rand(channels[block])
            trunk[f"conv_block{block}.bn{index}.num_batches_tracked"] = torch.tensor(7)
    rest = {
        "bn0.weight": torch.rand(64),
        "bn0.running_mean": torch.rand(64),
        "fc1.weight": torch.rand(512, 512),
        "fc_audioset.weight": torch.rand(527, 512),
        "fc_audioset.bias": torch.rand(527),
        "spectrogram_extractor.stft.conv_real.weight": torch.rand(513, 1, 1024),
        "logmel_extractor.melW": torch.rand(513, 64),
    }
    file = saved({"iteration": 600_000, "model": {**rest, **trunk}}, tmp_path / "panns.pth")
    model = build_model(CnnConfig(name=name), (64, 32), 4)
    report = load_pretrained(model.backbone, file)
    assert set(report.used) == set(trunk) == set(model.backbone.state_dict())
    assert set(report.left_over) == set(rest) and report.missing == []
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, trunk[key]), key


@pytest.mark.spec("M5")
@pytest.mark.parametrize("patch", [(16, 16), (128, 2)], ids=["Patch-400", "Frame-400"])
def test_an_ssast_file_fills_the_backbone_and_leaves_its_pretext_heads(patch: tuple[int, int], tmp_path: Path) -> None:
    state = ssast_state(patch)
    model = tiny_ssast((798, 128), patch_bins=patch[0], patch_frames=patch[1])
    report = load_pretrained(model.backbone, saved(state, tmp_path / "ssast.pth"))
    assert report.missing == [] and report.adapted == ["pos_embed"]
    own = model.backbone.state_dict()
    assert set(report.used) == set(own) - {"pos_embed"}
    assert torch.equal(own["patch_embed.weight"], state["module.v.patch_embed.proj.weight"])
    assert torch.equal(own["blocks.1.attn.proj.weight"], state["module.v.blocks.1.attn.proj.weight"])
    pretext = {f"{head}.{n}.{p}" for head in ("cpredlayer", "gpredlayer") for n in (0, 2) for p in ("weight", "bias")}
    heads = {f"{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}
    assert set(report.left_over) == pretext | heads | {"mask_embed", "p_input_fdim", "p_input_tdim"}


IMAGE_NETWORKS: list[tuple[ModelConfig, Callable[[], nn.Module], str]] = [
    (ResNetConfig(name="resnet18"), torchvision.models.resnet18, "conv1.weight"),
    (ResNetConfig(name="resnet50"), torchvision.models.resnet50, "conv1.weight"),
    (EfficientNetConfig(name="efficientnet_b0"), torchvision.models.efficientnet_b0, "features.0.0.weight"),
    (EfficientNetConfig(name="efficientnet_b2"), torchvision.models.efficientnet_b2, "features.0.0.weight"),
]


@pytest.mark.slow
@pytest.mark.spec("M7", "M8")
@pytest.mark.parametrize(("config", "colour", "stem"), IMAGE_NETWORKS, ids=lambda v: getattr(v, "name", ""))
@pytest.mark.parametrize("how", ["sum", "random"])
def test_an_imagenet_file_fills_the_trunk_and_its_stem_is_summed_or_left_untrained(
    config: ModelConfig, colour: Callable[[], nn.Module], stem: str, how: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    source = colour().eval()
    state = source.state_dict()
    if how == "sum":  # as the oldest published files
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    file = saved(state, tmp_path / "imagenet.pth")
    model = build_model(config.model_copy(update={"pretrained_stem": how}), (64, 48), 4, file).eval()
    report = model.load_report
    assert isinstance(report, LoadReport)
    own = model.backbone.state_dict()
    classifier = {name for name in state if name.startswith(("fc.", "classifier."))}
    assert len(classifier) == 2
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    assert set(report.used) == set(own) - {stem} - (counters if how == "sum" else set())
    assert all(torch.equal(own[name], state[name]) for name in report.used)
    grey = state[stem].sum(dim=1, keepdim=True)
    if how == "sum":
        assert report.adapted == [stem] and set(report.missing) == counters
        assert set(report.left_over) == classifier
        torch.testing.assert_close(own[stem], grey)
        x = torch.randn(2, 1, 64, 48)
        with torch.inference_mode():  # a grey picture in colours
            logits = source(x.expand(-1, 3, -1, -1))
            layers = [module for module in source.modules() if isinstance(module, nn.Linear)]
            torch.testing.assert_close(layers[-1](model.features(x)), logits, rtol=1e-3, atol=1e-3)
    else:
        assert report.missing == [stem] and report.adapted == []
        assert set(report.left_over) == classifier | {stem}
        assert own[stem].shape == grey.shape and not torch.allclose(own[stem], grey, atol=1e-2)


@pytest.mark.spec("M18")
def test_a_summary_counts_everything_and_names_what_is_no_routine(tmp_path: Path) -> None:
    report = LoadReport(["a", "b"], ["pos_embed"], ["conv1.weight"], [f"head.{n}" for n in range(30)])
    assert report.summary() == {
        "counts": {"used": 2, "adapted": 1, "missing": 1, "left_over": 30},
        "adapted": ["pos_embed"],
        "missing": ["conv1.weight"],
        "left_over": [f"head.{n}" for n in range(20)],
    }


@pytest.mark.slow
@pytest.mark.spec("M18")
def test_a_data_parallel_prefix_makes_no_difference(tmp_path: Path) -> None:
    state = deit_state()
    reports, states = [], []
    for prefix in ("", "module."):
        model = tiny_ast()
        file = saved({prefix + name: value for name, value in state.items()}, tmp_path / f"{prefix}deit.pth")
        reports.append(load_pretrained(model.backbone, file))
        states.append(model.backbone.state_dict())
    assert reports[0] == reports[1]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
