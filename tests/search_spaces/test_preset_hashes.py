"""The presets' names in the result store: whoever trained one of them finds the result again.

If a name here changes, each finished result of that preset is trained again. Change it only together with what changes
it on purpose: a default with `VERSION` of `workers.numbers_version`, or the `revision` of a feature.
"""

from __future__ import annotations

import pytest

from search_spaces.presets import load_preset, preset_names
from workers.config import ExperimentConfig
from workers.results import FoldKey

HASHES = {  # preset -> config hash, and the name of its result on fold 0 with seed 0 and made-up data, semantics 3
    "aicup_voice_mfcc13": ("0c5eba1f25d94dde", "b60d70c9e240da5a3c4d858b812e55f87d559fdb"),
    "aicup_voice_mfcc17": ("3e555a0ce87e57d1", "77fc9f6e2de0e3c04736661ed6d0a54bf4929c29"),
    "aicup_voice_mfcc21": ("71110aa565aafa8c", "6cc6ebedc630cf37fdd150684b25c8933cb6f0a1"),
    "aicup_voice_mfcc30": ("d75345a13fc74caf", "dcbe459833a87d8a4df83c5c4fbea167ca1b6f79"),
    "aicup_voice_mfcc50": ("f6ec05baabfe42e3", "d4221288e4f36558379ea061b8b604aa6be6c723"),
    "breathing_phase_cnn8": ("c0e0387aa1ade473", "a631ffe9c2184566d45013ee442ef5e7c64a9b0d"),
    "breathing_phase_vgg": ("5a3c8d003939ff55", "c5ef022a36000c2c8675dd11512ee77d0f29ddb2"),
    "crnn": ("3dc607a63a15cabf", "e3c388a1877313a8b49b53c40f122e663d0cdc89"),
    "cycleguardian": ("5d75d048ed5cfca8", "8a7f4684a3555a17ac85bc6352e7f785de2e1df7"),
    "icbhi_ce": ("28eb09f86bee3af2", "07f9f2dbaf6b8c6a97b0137ad43e7d5c6e9ad24d"),
    "icbhi_patchmix": ("4ef4ce3ae4dec7e2", "309a27ba576ba0cf2d8c7a411633bbb46e04325b"),
    "icbhi_patchmix_cl": ("7a339c333f4cbda6", "36a238e8f309ef691e1f85c503d7d90d80d77152"),
}


def test_every_preset_is_listed() -> None:
    assert preset_names() == sorted(HASHES)


@pytest.mark.parametrize("name", HASHES)
def test_a_preset_keeps_the_name_of_its_results(name: str) -> None:
    config = ExperimentConfig.parse(load_preset(name))
    key = FoldKey(
        semantics=3,
        config_hash=config.config_hash,
        data_hash="d" * 16,
        feature_id=config.feature.feature_id,
        split="official",
        split_hash="s" * 16,
        fold=0,
        seed=0,
    )
    assert (config.config_hash, key.hash) == HASHES[name]
    assert config.packages == {} and "packages" not in config.content()
