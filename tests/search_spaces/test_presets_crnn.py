"""The CRNN's preset, and what its header says of the noise that it leaves out."""

from __future__ import annotations

import re

import pytest

from feature_store.features import FbankSpec, resolve_feature
from search_spaces.overrides import override
from search_spaces.presets import FOLDER, load_preset
from workers.config import ExperimentConfig


@pytest.mark.spec("A14")
def test_the_header_s_switches_give_the_preset_noise_of_the_source() -> None:
    header = (FOLDER / "crnn.yaml").read_text()
    switches = re.findall(r"--set (\S+)", header)
    config = ExperimentConfig.parse(override(load_preset("crnn"), switches))
    noise = {"kind": "fbank", "copies": 1, "copy_by": "noise", "noise_sigma": 0.001, "noise_share": 0.3}
    assert config.feature == resolve_feature(noise)
    plain = ExperimentConfig.parse(load_preset("crnn"))
    assert plain.feature == FbankSpec()
    assert config == plain.model_copy(update={"feature": config.feature}), "packed as the preset is"
