"""Pretrained files: the published ones, files of published layouts made here, and files that must be refused."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.audio import cut_cycles, load_recording
from feature_store.errors import UserError
from feature_store.features import NAMED
from workers.config import AstConfig, CnnConfig, CrnnConfig, MnConfig
from workers.models import SoundClassifier, build_model
from workers.models.cnn import PannsCnn
from workers.models.mn import MobileNet
from workers.models.pretrained import load_pretrained, patch_kernel, position_table, read_weights

MN04, DINO = "mn04_as_mAP_432.pt", "vit_small_patch14_dinov2_fp16.pt"
TINY = AstConfig(name="ast", size="tiny", depth=2)
GRID = (12, 79)  # patches of 798 frames x 128 bins


def tiny_ast(shape: tuple[int, int] = (98, 64), **changes: Any) -> SoundClassifier:
    torch.manual_seed(0)
    return build_model(AstConfig(**{"name": "ast", "size": "tiny", "depth": 2, **changes}), shape, 4).eval()


def deit_state(depth: int = 2, grid: int = 24) -> dict[str, Tensor]:
    """timm's distilled DeiT at 384 pixels, with both 1000-way heads, made smaller."""
    torch.manual_seed(1)
    model = VisionTransformerDistilled(
        img_size=16 * grid, patch_size=16, embed_dim=192, depth=depth, num_heads=3, num_classes=1000
    )
    return {name: torch.randn_like(value) * 0.02 for name, value in model.state_dict().items()}


def audioset_state(depth: int = 2) -> dict[str, Tensor]:
    """AST's own AudioSet checkpoint: data-parallel prefix, one channel, 12 x 101 positions, a head of 527."""
    state = {f"module.v.{name}": value for name, value in deit_state(depth).items()}
    state["module.v.patch_embed.proj.weight"] = torch.randn(192, 1, 16, 16)
    state["module.v.pos_embed"] = torch.randn(1, 1214, 192)
    for layer, shape in (("0", (192,)), ("1", (527, 192))):
        state[f"module.mlp_head.{layer}.weight"] = torch.randn(shape)
        state[f"module.mlp_head.{layer}.bias"] = torch.randn(shape[0])
    return state


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


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


def test_mn04_hears_bodies_in_real_recordings(mn04: tuple[MobileNet, dict[str, Tensor]], breaths: Tensor) -> None:
    body, rank = heard(*mn04, breaths)
    assert len(breaths) == 13
    assert body.float().mean() >= 0.5  # by chance 8 in 527
    assert rank.median() > 0.85


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


def test_dinov2_fills_the_whole_backbone(shared_data: Path) -> None:
    model = build_model(AstConfig(name="ast", size="small", patch=14, stride=14), (98, 70), 4)
    report = load_pretrained(model.backbone, shared_data / "weights" / DINO)
    assert report.missing == [] and report.left_over == []
    assert set(report.used) | set(report.adapted) == set(model.backbone.state_dict())
    file = torch.load(shared_data / "weights" / DINO, weights_only=True)
    colours = file["patch_embed.proj.weight"].float()
    own = model.backbone.state_dict()
    torch.testing.assert_close(own["patch_embed.weight"][:, 0], colours[:, 0] + colours[:, 1] + colours[:, 2])
    assert torch.equal(own["dist_token"], own["cls_token"])


def test_layer_scale_is_folded_exactly(shared_data: Path) -> None:
    """x + gamma * f(x), written out in float64 from the file's entries, is what the folded block gives."""
    file = shared_data / "weights" / DINO
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

    file = shared_data / "weights" / DINO
    copied = tmp_path / "dino.safetensors"
    save_file(torch.load(file, weights_only=True), copied)
    config = AstConfig(name="ast", size="small", depth=1)  # patches of 16: the kernel is resampled, too
    one, other = (build_model(config, (98, 64), 4, path).backbone.state_dict() for path in (file, copied))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- files of published layouts ---


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


# --- positions ---


@pytest.mark.parametrize(("rows", "columns", "audio"), [(24, 24, False), (12, 101, True)], ids=["DeiT", "AudioSet AST"])
def test_positions_keep_their_place_in_frequency_and_time(rows: int, columns: int, audio: bool) -> None:
    """A table that spells its own row and column, read at 12 x 79 (Patch-Mix's release gives 0.000 in time)."""
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
    table = torch.cat((torch.full((1, 2, 2), -1.0), place.reshape(1, -1, 2).float()), dim=1)
    adapted = position_table(table, GRID, audio=audio, path=Path("file"))
    assert adapted.shape == (1, 2 + 12 * 79, 2)
    assert torch.equal(adapted[:, :2], table[:, :2])
    found = adapted[0, 2:].reshape(*GRID, 2).numpy()
    row, column = np.meshgrid(np.arange(12), np.arange(79), indexing="ij")
    for channel, true, other in ((0, row, column), (1, column, row)):
        assert np.corrcoef(found[..., channel].ravel(), true.ravel())[0, 1] > 0.99
        assert abs(np.corrcoef(found[..., channel].ravel(), other.ravel())[0, 1]) < 0.01
    assert np.diff(found[..., 0], axis=0) == pytest.approx(1.0)  # rows of 16 bins stay rows of 16 bins
    middle = found.mean(axis=(0, 1))
    assert middle == pytest.approx([(rows - 1) / 2, (columns - 1) / 2], abs=0.51)


def test_a_table_of_the_same_grid_stays_as_it_is() -> None:
    table = torch.randn(1, 1214, 8)
    assert torch.equal(position_table(table, (12, 101), audio=True, path=Path("file")), table)


def test_a_table_with_one_extra_token_serves_both() -> None:
    table = torch.randn(1, 1 + 16, 8)
    adapted = position_table(table, (4, 4), audio=False, path=Path("file"))
    assert torch.equal(adapted[:, 2:], table[:, 1:])
    assert torch.equal(adapted[:, 0], table[:, 0]) and torch.equal(adapted[:, 1], table[:, 0])


def test_a_resampled_patch_kernel_answers_an_even_patch_alike() -> None:
    torch.manual_seed(4)
    kernel = torch.rand(5, 3, 14, 14)
    resized = patch_kernel(kernel, 16)
    assert resized.shape == (5, 1, 16, 16)
    torch.testing.assert_close(resized.sum(dim=(1, 2, 3)), kernel.sum(dim=(1, 2, 3)), rtol=0.02, atol=0)


# --- refused ---


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def refusal(path: Path, backbone: nn.Module | None = None) -> str:
    backbone = backbone or tiny_ast().backbone
    before = copy.deepcopy(backbone.state_dict())
    with pytest.raises(UserError) as error:
        load_pretrained(backbone, path)
    assert path.name in str(error.value.where)
    assert error.value.hint
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    return str(error.value)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_file_is_not_run(writer: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    file = tmp_path / "trap.pth"
    if writer == "torch":
        torch.save({"model": {"weight": torch.zeros(1)}, "extra": Trap(sprung)}, file)
    else:
        file.write_bytes(pickle.dumps(Trap(sprung), protocol=4))
    message = refusal(file)
    assert "could run code" in message and "state_dict" in message
    assert not sprung.exists()
    if writer == "torch":
        torch.load(file, weights_only=False)  # the trap does spring where code is let run
    else:
        pickle.loads(file.read_bytes())
    assert sprung.is_dir()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_truncated_file_is_called_damaged(suffix: str, kept: float, tmp_path: Path) -> None:
    from safetensors.torch import save

    file = saved(deit_state(), tmp_path / f"deit{suffix}")
    content = save(deit_state()) if suffix == ".safetensors" else file.read_bytes()
    file.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    message = refusal(file)
    assert "damaged" in message and "fetch the file again" in message


def test_a_web_page_saved_as_weights_is_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "cnn.pth"
    file.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    assert "damaged" in refusal(file)


@pytest.mark.parametrize("content", [[torch.zeros(3)], torch.zeros(3), {}, {"model": {}}, {"epoch": 3}], ids=str)
def test_what_is_no_state_dict_is_called_so(content: Any, tmp_path: Path) -> None:
    assert "no state dict" in refusal(saved(content, tmp_path / "list.pth"))


def test_another_size_is_told_by_key_and_shape(shared_data: Path, tmp_path: Path) -> None:
    message = refusal(shared_data / "weights" / MN04, MobileNet(width=1.0))
    assert "'features.0.0.weight' has shape [8, 1, 3, 3], the model needs [16, 1, 3, 3]" in message
    assert "width" in message
    message = refusal(saved(deit_state(), tmp_path / "tiny.pth"), tiny_ast(size="small").backbone)
    assert "192" in message and "384" in message


def test_a_shallower_file_is_refused(tmp_path: Path) -> None:
    assert "blocks.2." in refusal(saved(deit_state(depth=2), tmp_path / "shallow.pth"), tiny_ast(depth=3).backbone)


def test_another_model_s_keys_are_named(shared_data: Path, tmp_path: Path) -> None:
    message = refusal(shared_data / "weights" / MN04, PannsCnn(convolutions=1, dropout=0))
    assert "conv_block1.conv1.weight" in message and "features.0.0.weight" in message
    message = refusal(shared_data / "weights" / MN04)
    assert "DeiT, AST or DINOv2" in message and "features.0.0.weight" in message


@pytest.mark.parametrize("lost", ["patch_embed.proj.bias", "cls_token", "pos_embed", "blocks.1.attn.proj.bias"])
def test_a_transformer_that_lacks_a_key_is_refused_by_its_name(lost: str, tmp_path: Path) -> None:
    state = deit_state() | {f"blocks.{n}.ls1.gamma": torch.ones(192) for n in range(2)}
    del state["dist_token"], state[lost]
    assert lost in refusal(saved(state, tmp_path / "torn.pth"))


def test_a_table_that_fits_no_grid_is_refused(tmp_path: Path) -> None:
    state = deit_state() | {"pos_embed": torch.randn(1, 500, 192)}
    assert "500" in refusal(saved(state, tmp_path / "odd.pth"))


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = deit_state()
    state["blocks.1.norm1.weight"][3] = torch.nan
    assert "blocks.1.norm1.weight" in refusal(saved(state, tmp_path / "nan.pth"))


def test_a_transformer_with_registers_is_refused(tmp_path: Path) -> None:
    """DINOv2 with registers has tokens between cls and patches: without them its weights mean something else."""
    state = deit_state() | {"reg_token": torch.randn(1, 4, 192)}
    assert "no place for, the first: reg_token" in refusal(saved(state, tmp_path / "registers.pth"))


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
