"""Pretrained files by name and by content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import UserError
from tests.conftest import TINY_FEATURE
from workers.config import ExperimentConfig
from workers.config.models import Pretrained
from workers.weights import local_weights, pin_weights


def config_with(pretrained: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(
        {
            "feature": TINY_FEATURE,
            "model": {"name": "cnn6", "pretrained": pretrained},
            "objective": {"name": "ce"},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.pt").write_bytes(b"first")
    return tmp_path / "weights"


def test_the_hash_covers_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    for name, content in (("copy.pt", b"first"), ("other.pt", b"second")):
        (tmp_path / name).write_bytes(content)
    hashes = {
        name: pin_weights(config_with(str(path)), folder).config_hash
        for name, path in (("a", "a.pt"), ("copy", tmp_path / "copy.pt"), ("other", tmp_path / "other.pt"))
    }
    assert hashes["a"] == hashes["copy"] != hashes["other"]
    assert hashes["a"] != config_with(None).config_hash
    assert config_with("a.pt").config_hash != hashes["a"]  # not pinned yet: nothing is known of the content


def test_pinning_writes_the_sha_256_and_nothing_else(folder: Path) -> None:
    config = config_with("a.pt")
    pinned = pin_weights(config, folder)
    assert pinned.model.pretrained == Pretrained(file="a.pt", sha256=hashlib.sha256(b"first").hexdigest())
    assert config.model.pretrained == Pretrained(file="a.pt")
    assert pin_weights(pinned, folder.parent) is pinned  # no file is needed for a config that is pinned
    assert config_with(None) == pin_weights(config_with(None), folder)


def test_a_bare_name_is_found_in_the_weights_folder_and_a_path_anywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_weights(Pretrained(file="a.pt"), folder) == folder / "a.pt"
    assert local_weights(Pretrained(file=str(folder / "a.pt")), tmp_path / "nowhere") == folder / "a.pt"
    assert local_weights(Pretrained(file="weights/a.pt"), tmp_path / "nowhere") == folder / "a.pt"
    assert local_weights(None, folder) is None


def test_changed_content_is_refused(folder: Path) -> None:
    pinned = pin_weights(config_with("a.pt"), folder).model.pretrained
    assert local_weights(pinned, folder) == folder / "a.pt"
    (folder / "a.pt").write_bytes(b"changed")
    with pytest.raises(
        UserError, match=r"a\.pt: is not the pretrained file.*" + hashlib.sha256(b"first").hexdigest()[:12]
    ):
        local_weights(pinned, folder)


@pytest.mark.parametrize("call", ["local", "pin"])
def test_a_missing_file_tells_where_to_put_it(call: str, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        if call == "pin":
            pin_weights(config_with("b.pt"), folder)
        else:
            local_weights(Pretrained(file="b.pt"), folder)
    for word in ("'b.pt'", str(folder), "LUNGTUNE_WEIGHTS", "model.pretrained"):
        assert word in str(error.value)
