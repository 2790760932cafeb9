"""A trained model on raw audio: the same path from sound to tensor as the feature store's, cycle by cycle."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.audio import cut_cycles, load_recording
from feature_store.errors import UserError
from workers.config import ExperimentConfig

CONFIG, WEIGHTS = "model_config.json", "model.safetensors"


@dataclass(frozen=True)
class Prediction:
    """Class probabilities ``[classes]`` of one cycle, or of one window where no cycles were given."""

    start: float
    end: float
    probabilities: np.ndarray


class SoundModel:
    """A model with its feature and its classes, loaded for prediction on the CPU.

    Args:
        folder: holds `model_config.json` (config and classes) and `model.safetensors`.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        from workers.models import build_model

        content = json.loads((folder / CONFIG).read_text())
        self.classes: list[str] = content["classes"]
        self.config = ExperimentConfig.parse(content["config"], where=str(folder / CONFIG))
        self.model = build_model(self.config.model, self.config.feature.shape, len(self.classes), None)
        self.model.load_state_dict(load_file(folder / WEIGHTS))
        self.model.eval()

    def predict(self, audio: Path, cycles: list[tuple[float, float]] | None = None) -> list[Prediction]:
        """Class probabilities of each cycle of a recording.

        Args:
            audio: a mono WAV or FLAC file of any rate.
            cycles: start and end of each in seconds; without them the recording is cut into windows of the
                feature's length.

        Raises:
            UserError: the file is no such recording, or a cycle lies outside of it.
        """
        import torch

        spec = self.config.feature
        waveform = load_recording(audio, spec.sample_rate, spec.fade_seconds, spec.band_pass)
        seconds = len(waveform) / spec.sample_rate
        spans = cycles if cycles is not None else windows(seconds, spec.seconds)
        for start, end in spans:
            if not 0 <= start < min(end, seconds):
                raise UserError(f"no cycle from {start} to {end} s in {seconds:.2f} s of sound", where=str(audio))
        if not spans:
            return []
        values = torch.from_numpy(spec.compute(cut_cycles(waveform, spans, spec)))
        with torch.inference_mode():
            probabilities = self.model(values.unsqueeze(1).float()).softmax(dim=1).numpy()
        return [Prediction(*span, row) for span, row in zip(spans, probabilities, strict=True)]


def windows(seconds: float, length: float) -> list[tuple[float, float]]:
    """A recording cut into equal windows of at most `length` seconds.

    >>> windows(20.0, 8.0)
    [(0.0, 6.666666666666667), (6.666666666666667, 13.333333333333334), (13.333333333333334, 20.0)]
    """
    count = max(1, int(np.ceil(seconds / length)))
    edges = np.linspace(0.0, seconds, count + 1).tolist()
    return list(itertools.pairwise(edges))


def write_model(folder: Path, config: ExperimentConfig, classes: list[str], weights: bytes) -> dict[str, Any]:
    """Lay a model out for `SoundModel`; returns the two files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = config.model_dump(mode="json")
    bare["model"]["pretrained"] = None  # its weights are in the file already
    (folder / CONFIG).write_text(json.dumps({"classes": classes, "config": bare}, indent=1))
    (folder / WEIGHTS).write_bytes(weights)
    return {"config": str(folder / CONFIG), "weights": str(folder / WEIGHTS)}
