"""Pretrained weights from the published files at hand, and from models that lungtune saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.audio import cut_cycles, load_recording
from feature_store.features import NAMED
from tests.support.pretrained_files import tiny_ast
from workers.config.models import AstConfig, CrnnConfig, MnConfig
from workers.models import build_model
from workers.models.mn import MobileNet
from workers.models.pretrained import load_pretrained
from workers.models.weight_file import read_weights

MN04, DINO = "mn04_as_mAP_432.pt", "vit_small_patch14_dinov2_fp16.pt"
TINY = AstConfig(name="ast", size="tiny", depth=2)

# --- EfficientAT's mn04 ---


@pytest.fixture(scope="module")
def mn04(shared_data: Path) -> tuple[MobileNet, dict[str, Tensor]]:
    file = shared_data / "weights" / MN04
    model = MobileNet(width=0.4)
    load_pretrained(model, file)
    return model.eval(), read_weights(file)


def test_every_entry_of_the_mn04_file_has_its_place(shared_data: Path) -> None:
    """993,485 values with AudioSet's head: 983,599 trained ones, batch norms' statistics, and their 46 counters."""
    model = build_model(MnConfig(name="mn", width=0.4), (400, 128), 527)
    report = load_pretrained(model.backbone, shared_data / "weights" / MN04)
    assert report.left_over == ["classifier.5.weight", "classifier.5.bias"]
    assert report.missing == [] and report.adapted == []
    assert set(report.used) == set(model.backbone.state_dict())
    entries = model.state_dict()
    assert sum(value.numel() for value in entries.values()) == 993_485
    assert sum(name.endswith("num_batches_tracked") for name in entries) == 46
    assert sum(parameter.numel() for parameter in model.parameters()) == 983_599


@pytest.fixture(scope="module")
def breaths(shared_data: Path) -> Tensor:
    """A cycle of each of 13 recordings, as the mn04 features ``[13, 1, 400, 128]``."""
    spec = NAMED["mel"]
    values = []
    for audio in sorted((shared_data / "icbhi" / "audio").glob("*.flac"))[::16]:
        waveform = load_recording(audio, spec.sample_rate, spec.fade_seconds)
        start, end = map(float, audio.with_suffix(".txt").read_text().splitlines()[1].split()[:2])
        values.append(spec.compute(cut_cycles(waveform, [(start, end)], spec)))
    return torch.from_numpy(np.stack(values))


def heard(model: MobileNet, state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each cycle whether AudioSet's first class is a sound of the body, and where its breathing classes rank.

    Breathing, wheeze, snoring, gasp, pant (41-45), stomach rumble (57), heart sounds and murmur (64, 65), of 527.
    A rank is the share of all classes below the best of the five of breathing.
    """
    with torch.inference_mode():
        logits = F.linear(model(x), state["classifier.5.weight"], state["classifier.5.bias"])
    body = torch.isin(logits.argmax(dim=1), torch.tensor([41, 42, 43, 44, 45, 57, 64, 65]))
    breathing = logits[:, 41:46].amax(dim=1, keepdim=True)
    return body, (logits < breathing).float().mean(dim=1)


@pytest.mark.slow
def test_mn04_hears_bodies_in_real_recordings(mn04: tuple[MobileNet, dict[str, Tensor]], breaths: Tensor) -> None:
    body, rank = heard(*mn04, breaths)
    assert len(breaths) == 13
    assert body.float().mean() >= 0.5  # by chance 8 in 527
    assert rank.median() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["features.3.block.0.0", "features.8.block.1.0", "features.16.0", "classifier.2"])
def test_mn04_hears_nothing_once_one_layer_is_mis_wired(
    mn04: tuple[MobileNet, dict[str, Tensor]], breaths: Tensor, layer: str
) -> None:
    """What the test before can see: the same weights with one layer's channels in another order."""
    broken = copy.deepcopy(mn04[0])
    weight = broken.get_submodule(layer).weight
    assert isinstance(weight, nn.Parameter)
    weight.data = weight.data[torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))]
    body, rank = heard(broken, mn04[1], breaths)
    assert body.float().mean() < 0.2
    assert rank.median() < 0.85


# --- DINOv2 ---


def dino(shared_data: Path) -> Path:
    file = shared_data / "weights" / DINO
    if not file.exists():
        pytest.skip(f"no weights: {file} is missing")
    return file


@pytest.mark.slow
def test_dinov2_fills_the_whole_backbone(shared_data: Path) -> None:
    model = build_model(AstConfig(name="ast", size="small", patch=14, stride=14), (98, 70), 4)
    report = load_pretrained(model.backbone, dino(shared_data))
    assert report.missing == [] and report.left_over == []
    assert set(report.used) | set(report.adapted) == set(model.backbone.state_dict())
    file = torch.load(dino(shared_data), weights_only=True)
    colours = file["patch_embed.proj.weight"].float()
    own = model.backbone.state_dict()
    torch.testing.assert_close(own["patch_embed.weight"][:, 0], colours[:, 0] + colours[:, 1] + colours[:, 2])
    assert torch.equal(own["dist_token"], own["cls_token"])


def test_layer_scale_is_folded_exactly(shared_data: Path) -> None:
    """x + gamma * f(x), written out in float64 from the file's entries, is what the folded block gives."""
    file = dino(shared_data)
    model = build_model(AstConfig(name="ast", size="small", depth=1), (98, 64), 4, file).double().eval()
    entries = {name: value.double() for name, value in torch.load(file, weights_only=True).items()}

    def layer(name: str, x: Tensor) -> Tensor:
        return x @ entries[f"blocks.0.{name}.weight"].T + entries[f"blocks.0.{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (384,), entries[f"blocks.0.{name}.weight"], entries[f"blocks.0.{name}.bias"], 1e-6)

    x = torch.randn(2, 9, 384, dtype=torch.float64)
    query, key, value = layer("attn.qkv", norm("norm1", x)).reshape(2, 9, 3, 6, 64).permute(2, 0, 3, 1, 4)
    mixed = (query @ key.transpose(2, 3) / 8).softmax(dim=3) @ value
    y = x + entries["blocks.0.ls1.gamma"] * layer("attn.proj", mixed.transpose(1, 2).reshape(2, 9, 384))
    y = y + entries["blocks.0.ls2.gamma"] * layer("mlp.fc2", F.gelu(layer("mlp.fc1", norm("norm2", y))))
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone.get_submodule("blocks.0")(x), y, rtol=1e-5, atol=1e-5)
    assert (y - x).abs().max() > 0.05


def test_half_precision_in_safetensors_loads_as_the_pytorch_file(shared_data: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = dino(shared_data)
    copied = tmp_path / "dino.safetensors"
    save_file(torch.load(file, weights_only=True), copied)
    config = AstConfig(name="ast", size="small", depth=1)  # patches of 16: the kernel is resampled, too
    one, other = (build_model(config, (98, 64), 4, path).backbone.state_dict() for path in (file, copied))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- lungtune's own files ---


@pytest.mark.parametrize("name", ["crnn", "mn", "ast"])
def test_a_model_that_lungtune_saved_gives_its_backbone_to_another_task(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config: Any = {"crnn": CrnnConfig(name="crnn"), "mn": MnConfig(name="mn", width=0.2), "ast": TINY}[name]
    torch.manual_seed(5)
    source = build_model(config, (98, 64), 4).eval()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(6)
    model = build_model(config, (98, 64), 2, tmp_path / "model.safetensors").eval()
    x = torch.randn(2, 1, 98, 64)
    with torch.inference_mode():
        assert torch.equal(model.features(x), source.features(x))
        assert model(x).shape == (2, 2)
    report = model.load_report
    assert report is not None and report.missing == [] and report.adapted == []
    assert set(report.left_over) == {key for key in source.state_dict() if key.startswith("head.")}


def test_a_model_without_a_file_has_no_report() -> None:
    assert tiny_ast().load_report is None
