"""A stored model on raw audio: the same numbers as in training, cycle by cycle."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save

from feature_store.errors import UserError
from feature_store.features import resolve_feature
from tests.conftest import TINY_FEATURE
from workers.config import ExperimentConfig
from workers.inference import CONFIG, SoundModel, windows, write_model
from workers.models import build_model

CLASSES = ["normal", "crackle", "wheeze", "both"]
RATE = 16_000


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentConfig, torch.nn.Module]:
    """A folder with a model whose pretrained file is nowhere, its config, and the model itself."""
    config = ExperimentConfig.parse(
        {
            "feature": TINY_FEATURE,
            "model": {"name": "crnn", "hidden": 8, "pretrained": {"file": "gone.pt", "sha256": "0" * 64}},
            "objective": {"name": "ce"},
        }
    )
    torch.manual_seed(0)
    model = build_model(config.model, config.feature.shape, 4).eval()
    folder = tmp_path_factory.mktemp("packed") / "model"
    write_model(folder, config, CLASSES, save(model.state_dict()))
    return folder, config, model


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds that grow louder and higher."""
    time = np.arange(5 * RATE) / RATE
    noise = np.random.default_rng(0).normal(size=len(time))
    path = tmp_path_factory.mktemp("audio") / "sweep.wav"
    soundfile.write(path, 0.1 * time / 5 * (np.sin(600 * time**2) + 0.3 * noise), RATE, subtype="PCM_24")
    return path


def test_probabilities_are_the_model_s_on_the_cycle_s_own_samples(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    """The first two seconds of longer cycles, cut by hand; only the recording's own beginning is faded in."""
    folder, _, model = packed
    spans = [(1.0, 3.3), (2.5, 4.6), (0.0, 2.2)]
    predicted = SoundModel(folder).predict(recording, spans)
    samples = soundfile.read(recording, dtype="float32")[0]
    samples[:1000] *= np.linspace(0, 1, 1000, dtype=np.float32)
    waveforms = np.stack([samples[int(start * RATE) :][: 2 * RATE] for start, _ in spans])
    values = torch.from_numpy(resolve_feature(TINY_FEATURE).compute(waveforms))
    with torch.no_grad():
        logits = model(values[:, None]).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, (span, found) in enumerate(zip(spans, predicted, strict=True)):
        assert (found.start, found.end) == span
        assert found.probabilities == pytest.approx(expected[row], abs=1e-6)
    assert not np.allclose(predicted[0].probabilities, predicted[1].probabilities, atol=1e-4)


def test_a_cycle_s_prediction_does_not_hang_on_its_neighbours(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    spans = [(0.0, 0.7), (0.7, 3.1), (4.0, 5.0)]
    together = model.predict(recording, spans)
    for span, one in zip(spans, together, strict=True):
        assert model.predict(recording, [span])[0].probabilities == pytest.approx(one.probabilities, abs=1e-6)
    assert model.predict(recording, []) == []


def test_without_cycles_the_recording_is_cut_into_windows(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    found = model.predict(recording)
    spans = [(one.start, one.end) for one in found]
    assert spans == pytest.approx(np.array([(0, 5 / 3), (5 / 3, 10 / 3), (10 / 3, 5)]))  # at most 2 s each
    given = model.predict(recording, spans)
    assert [one.probabilities.tolist() for one in found] == [one.probabilities.tolist() for one in given]


@pytest.mark.parametrize(
    ("seconds", "length", "count"), [(0.3, 8, 1), (8, 8, 1), (8.001, 8, 2), (20, 8, 3), (86.2, 5, 18)]
)
def test_windows_tile_the_recording(seconds: float, length: float, count: int) -> None:
    spans = windows(seconds, length)
    assert len(spans) == count
    assert spans[0][0] == 0 and spans[-1][1] == seconds
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))
    assert max(end - start for start, end in spans) <= length + 1e-9


@pytest.mark.parametrize(
    "cycle", [(-0.1, 1.0), (2.0, 2.0), (3.0, 2.0), (5.0, 6.0), (float("nan"), 1.0), (1.0, float("nan"))]
)
def test_a_cycle_outside_of_the_recording_is_refused(
    cycle: tuple[float, float], packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    with pytest.raises(UserError, match=r"sweep\.wav: no cycle from .* in 5\.00 s"):
        SoundModel(packed[0]).predict(recording, [(0.0, 1.0), cycle])


def test_a_cycle_annotated_past_the_end_is_cut_there(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], recording: Path
) -> None:
    model = SoundModel(packed[0])
    past, exact = (model.predict(recording, [(4.0, end)])[0] for end in (5.02, 5.0))
    assert past.probabilities == pytest.approx(exact.probabilities, abs=1e-7)


def test_what_is_no_sound_is_refused_by_its_name(
    packed: tuple[Path, ExperimentConfig, torch.nn.Module], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "missing.wav"):
        with pytest.raises(UserError, match=name):
            SoundModel(packed[0]).predict(tmp_path / name)


def test_the_folder_says_what_it_is_without_a_pickle(packed: tuple[Path, ExperimentConfig, torch.nn.Module]) -> None:
    folder, config, model = packed
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "model_config.json"]
    content: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    assert content["classes"] == CLASSES
    assert content["config"]["model"]["pretrained"] is None
    assert content["config"]["feature"] == config.feature.model_dump(mode="json")
    loaded = SoundModel(folder).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
