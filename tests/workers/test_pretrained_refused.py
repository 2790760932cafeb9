"""Files of weights that must be refused, with the reason, and without a change to the model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from feature_store.errors import UserError
from tests.support.pretrained_files import deit_state, saved, tiny_ast
from workers.models.cnn import PannsCnn
from workers.models.mn import MobileNet
from workers.models.pretrained import load_pretrained

MN04 = "mn04_as_mAP_432.pt"


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


@pytest.mark.slow
def test_another_size_is_told_by_key_and_shape(shared_data: Path, tmp_path: Path) -> None:
    message = refusal(shared_data / "weights" / MN04, MobileNet(width=1.0))
    assert "'features.0.0.weight' has shape [8, 1, 3, 3], the model needs [16, 1, 3, 3]" in message
    assert "width" in message
    message = refusal(saved(deit_state(), tmp_path / "tiny.pth"), tiny_ast(size="small").backbone)
    assert "192" in message and "384" in message


def test_a_shallower_file_is_refused(tmp_path: Path) -> None:
    assert "blocks.2." in refusal(saved(deit_state(depth=2), tmp_path / "shallow.pth"), tiny_ast(depth=3).backbone)


@pytest.mark.slow
def test_another_model_s_keys_are_named(shared_data: Path, tmp_path: Path) -> None:
    message = refusal(shared_data / "weights" / MN04, PannsCnn((64, 32), convolutions=1, dropout=0))
    assert "conv_block1.conv1.weight" in message and "features.0.0.weight" in message
    message = refusal(shared_data / "weights" / MN04)
    assert "DeiT, AST, SSAST or DINOv2" in message and "features.0.0.weight" in message


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
