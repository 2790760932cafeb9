"""Positions and patch kernels of one grid for another, checked against coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from feature_store.errors import UserError
from tests.support.pretrained_files import audioset_state, coordinates, deit_state, saved, ssast_state
from workers.config.models import AstConfig, SsastConfig
from workers.models import build_model
from workers.models.load_report import LoadReport
from workers.models.transformer_weights import patch_kernel, position_table

GRID = (12, 79)  # patches of 798 frames x 128 bins
PUBLISHED = (798, 128)


def loaded_positions(config: Any, state: dict[str, Any], folder: Path) -> tuple[np.ndarray, LoadReport]:
    """Row and column that each token of ``[frequency, time, 2]`` was given by a file, and the report."""
    model = build_model(config, PUBLISHED, 4, saved(state, folder / "file.pth"))
    assert model.load_report is not None and model.load_report.missing == []
    table = model.backbone.state_dict()["pos_embed"]
    assert (table[0, :2, :2] == -1).all()  # of the two extra tokens
    return table[0, 2:, :2].reshape(*model.backbone.grid, 2).numpy(), model.load_report


def correlations(found: np.ndarray) -> tuple[float, float]:
    """Of the pretrained row with the token's frequency, and of the pretrained column with its time."""
    row, column = np.meshgrid(*map(np.arange, found.shape[:2]), indexing="ij")
    pairs = ((found[..., 0], row), (found[..., 1], column))
    return tuple(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.spec("M3")
def test_correct_positions_of_an_audioset_file_keep_frequency_and_time(tmp_path: Path) -> None:
    state = audioset_state() | {"module.v.pos_embed": coordinates(12, 101)}
    found, _ = loaded_positions(AstConfig(name="ast", size="tiny", depth=2), state, tmp_path)
    assert correlations(found) == pytest.approx((1.0, 1.0), abs=5e-4)
    assert found[0, 0].tolist() == [0, 11] and found[11, 78].tolist() == [11, 89]


@pytest.mark.spec("M3")
def test_seed_compat_loses_time_as_the_release_does(tmp_path: Path) -> None:
    """The values that were measured on the released code: 0.997 and 0.000, and the places of three tokens."""
    state = audioset_state() | {"module.v.pos_embed": coordinates(12, 101)}
    config = AstConfig(name="ast", size="tiny", depth=2, pos_embed_layout="seed_compat")
    found, report = loaded_positions(config, state, tmp_path)
    assert correlations(found) == pytest.approx((0.997, 0.0), abs=5e-4)
    assert found[0, 0].tolist() == [0, 44]
    assert found[0, 12].tolist() == [0, 44]
    assert found[0, 78] == pytest.approx([0.49, 50], abs=0.005)
    assert "pos_embed" in report.adapted


@pytest.mark.spec("M3")
@pytest.mark.parametrize("layout", ["correct", "seed_compat"])
def test_a_table_of_the_token_count_is_taken_as_it_is(layout: Any, tmp_path: Path) -> None:
    """Such as that of a model that Patch-Mix has trained."""
    state = audioset_state() | {"module.v.pos_embed": torch.randn(1, 2 + 948, 192)}
    config = AstConfig(name="ast", size="tiny", depth=2, pos_embed_layout=layout)
    model = build_model(config, PUBLISHED, 4, saved(state, tmp_path / "file.pth"))
    assert torch.equal(model.backbone.state_dict()["pos_embed"], state["module.v.pos_embed"])
    assert model.load_report is not None and "pos_embed" in model.load_report.used


@pytest.mark.spec("M2")
def test_a_picture_s_positions_are_cropped_in_frequency_and_stretched_in_time(tmp_path: Path) -> None:
    state = deit_state() | {"pos_embed": coordinates(24, 24)}
    found, _ = loaded_positions(AstConfig(name="ast", size="tiny", depth=2), state, tmp_path)
    rows, columns = found[:, 0, 0], found[0, :, 1]
    assert rows.tolist() == list(range(6, 18))
    assert columns == pytest.approx(np.clip((np.arange(79) + 0.5) * 24 / 79 - 0.5, 0, 23), abs=1e-4)
    assert correlations(found) == pytest.approx((1.0, 1.0), abs=1e-3)


@pytest.mark.spec("M3")
def test_seed_compat_swaps_a_picture_s_axes_too(tmp_path: Path) -> None:
    state = deit_state() | {"pos_embed": coordinates(24, 24)}
    config = AstConfig(name="ast", size="tiny", depth=2, pos_embed_layout="seed_compat")
    flat = loaded_positions(config, state, tmp_path)[0].reshape(948, 2)
    swapped = flat.reshape(79, 12, 2)  # what the table was made for
    assert swapped[0, :, 1].tolist() == list(range(6, 18))
    assert abs(correlations(flat.reshape(12, 79, 2))[1]) < 0.01


@pytest.mark.spec("M5")
def test_positions_of_ssast_patch_go_from_8_x_64_to_12_x_79(tmp_path: Path) -> None:
    state = ssast_state() | {"module.v.pos_embed": coordinates(8, 64)}
    found, _ = loaded_positions(SsastConfig(name="ssast", size="tiny", depth=2), state, tmp_path)
    expected_rows = np.clip((np.arange(12) + 0.5) * 8 / 12 - 0.5, 0, 7)
    expected_columns = np.clip((np.arange(79) + 0.5) * 64 / 79 - 0.5, 0, 63)
    assert found[..., 0] == pytest.approx(np.repeat(expected_rows[:, None], 79, axis=1), abs=1e-4)
    assert found[..., 1] == pytest.approx(np.repeat(expected_columns[None], 12, axis=0), abs=1e-4)


@pytest.mark.spec("M5")
@pytest.mark.parametrize(("stride", "columns"), [(10, 80), (2, 399)])
def test_positions_of_ssast_frame_are_cut_around_their_middle(stride: int, columns: int, tmp_path: Path) -> None:
    state = ssast_state((128, 2)) | {"module.v.pos_embed": coordinates(1, 512)}
    config = SsastConfig(name="ssast", size="tiny", depth=2, patch_bins=128, patch_frames=2, stride=stride)
    found, report = loaded_positions(config, state, tmp_path)
    first = 256 - columns // 2
    assert found[0, :, 1].tolist() == list(range(first, first + columns))
    assert report.adapted == ["pos_embed"]


@pytest.mark.spec("M5")
@pytest.mark.parametrize(
    ("file", "model"), [((16, 16), (128, 2)), ((128, 2), (16, 16)), ((16, 16), (14, 14))], ids=["P-F", "F-P", "side"]
)
def test_another_patch_shape_is_refused_with_the_one_to_set(
    file: tuple[int, int], model: tuple[int, int], tmp_path: Path
) -> None:
    config = SsastConfig(name="ssast", size="tiny", depth=2, patch_bins=model[0], patch_frames=model[1])
    message = f"patches are {file[0]} bins x {file[1]} frames.*patch_bins {file[0]} and patch_frames {file[1]}"
    with pytest.raises(UserError, match=message):
        build_model(config, PUBLISHED, 4, saved(ssast_state(file), tmp_path / "ssast.pth"))


@pytest.mark.slow
@pytest.mark.spec("M5")
def test_positions_that_are_not_of_the_pretraining_input_are_refused(tmp_path: Path) -> None:
    state = ssast_state() | {"module.p_input_tdim": torch.tensor(998)}
    with pytest.raises(UserError, match="514 rows fits no grid"):
        build_model(SsastConfig(name="ssast", size="tiny"), PUBLISHED, 4, saved(state, tmp_path / "ssast.pth"))


# --- the table and the kernel by themselves ---


@pytest.mark.spec("M2")
@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (12, 101)], ids=["DeiT", "AudioSet AST"])
def test_rows_of_16_bins_stay_so_and_the_middle_stays_the_middle(rows: int, columns: int) -> None:
    adapted = position_table(coordinates(rows, columns, 2), (rows, columns), GRID)
    assert adapted.shape == (1, 2 + 12 * 79, 2)
    found = adapted[0, 2:].reshape(*GRID, 2).numpy()
    assert np.diff(found[..., 0], axis=0) == pytest.approx(1.0)
    assert found.mean(axis=(0, 1)) == pytest.approx([(rows - 1) / 2, (columns - 1) / 2], abs=0.51)


def test_a_table_of_the_same_grid_stays_as_it_is() -> None:
    table = torch.randn(1, 1214, 8)
    assert torch.equal(position_table(table, (12, 101), (12, 101)), table)


def test_a_table_with_one_extra_token_serves_both() -> None:
    table = torch.randn(1, 1 + 16, 8)
    adapted = position_table(table, (4, 4), (4, 4))
    assert torch.equal(adapted[:, 2:], table[:, 1:])
    assert torch.equal(adapted[:, 0], table[:, 0]) and torch.equal(adapted[:, 1], table[:, 0])


def test_a_resampled_patch_kernel_answers_an_even_patch_alike() -> None:
    torch.manual_seed(4)
    kernel = torch.rand(5, 3, 14, 14)
    resized = patch_kernel(kernel, 16)
    assert resized.shape == (5, 1, 16, 16)
    torch.testing.assert_close(resized.sum(dim=(1, 2, 3)), kernel.sum(dim=(1, 2, 3)), rtol=0.02, atol=0)
