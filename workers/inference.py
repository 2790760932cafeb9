"""A trained model on raw audio: the same path from sound to tensor as the feature store's, cycle by cycle."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.audio import condition, cut_cycle_pieces, cut_cycles
from feature_store.counted import counted
from feature_store.errors import UserError
from workers.config import ExperimentConfig
from workers.results import WEIGHTS
from workers.sound import MOST_WINDOWS, Limits, Sound, read_sound
from workers.voting import Pieces, put_together

CONFIG = "model_config.json"
BATCH = 16  # cycles, or pieces of them, that are in memory as tensors at once
USUAL_RATE = 4_000  # Hz; lung sounds reach up to 2 kHz
SILENCE = 1e-4  # largest sample of what counts as silence: 80 dB below full scale
SHORTEST, LATEST = 0.2, 0.1  # s: ICBHI's shortest cycle; how far its annotations end past their recordings
LONGEST = 86_400.0  # s: no annotation of a recording goes on for more than a day


@dataclass(frozen=True)
class Prediction:
    """Class probabilities ``[classes]`` of one cycle, or of one window where no cycles were given.

    Attributes:
        start, end: as they were asked for, s.
        seconds: of sound between them.
        note: what makes the probabilities doubtful, or how many pieces they are of; empty where nothing does.
    """

    start: float
    end: float
    probabilities: np.ndarray
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class RecordingPrediction:
    """What a model says of a recording.

    Attributes:
        cycles: in the order in which they were given.
        seconds: length of the recording.
        rate: that it was made at, Hz.
        note: what makes the probabilities doubtful, or how the recording was cut.
    """

    cycles: list[Prediction]
    seconds: float
    rate: int
    note: str = ""

    @property
    def probabilities(self) -> np.ndarray:
        """``[classes]``: mean over the cycles, each weighted by its seconds of sound."""
        rows = np.stack([cycle.probabilities for cycle in self.cycles]).astype(np.float64)
        return np.average(rows, axis=0, weights=[cycle.seconds for cycle in self.cycles])


class SoundModel:
    """A model with its feature and its classes, loaded for prediction.

    Args:
        folder: holds `model_config.json` (config and classes) and `model.safetensors`.
        device: a torch device; ``auto`` is the GPU if there is one.

    Raises:
        UserError: the folder lacks a file, or the weights are not those of the model.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from workers.models import build_model

        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise UserError(f"has no {name}", where=str(folder), hint="register the model again")
        content = json.loads((folder / CONFIG).read_text())
        self.classes: list[str] = content["classes"]
        self.config = ExperimentConfig.parse(content["config"], where=str(folder / CONFIG))
        self.device = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        spec = self.config.feature
        self.model = build_model(self.config.model, spec.shape, len(self.classes), scalars=spec.scalars)
        try:
            self.model.load_state_dict(load_file(folder / WEIGHTS))
        except (SafetensorError, RuntimeError) as error:
            raise UserError("the weights are damaged, or of another model", where=str(folder / WEIGHTS)) from error
        self.model.to(self.device).eval()

    def predict(
        self,
        sound: Sound,
        cycles: Sequence[tuple[float, float]] | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        name: str | None = None,
        table: Sequence[float] = (),
        pieces: Pieces | None = None,
        limits: Limits | None = None,
    ) -> RecordingPrediction:
        """Class probabilities of each cycle of a recording.

        Args:
            sound: a mono recording of any rate from 1 kHz.
            cycles: start and end of each in seconds; without them the recording is cut into windows.
            window, hop: length of the windows and from one's start to the next's, s; see `windows`. A window is at most
                as long as the feature, which is also what it is if not given.
            name: what errors call the recording; a file's path if not given.
            table: what is known of the recording beside its sound, if the feature takes it (`Recording.table`).
            pieces: of a cycle longer than the feature all overlapping pieces are heard, and put together by the mean
                of their probabilities or by a vote (see `workers.voting`); without it only the one part that training
                takes. No window is longer.
            limits: what the recording may cost, and less that afterwards; without them only windows are limited.

        Raises:
            UserError: it is no such recording, a cycle lies outside of it, the windows make no sense, or it costs more.
        """
        name = name or (str(sound) if isinstance(sound, Path) else "the sound")
        spec, limits = self.config.feature, limits or Limits()
        limits.take("cycles", len(cycles or ()), name)
        samples, rate = read_sound(sound, name, spec.full_scale, limits)
        waveform = condition(samples, rate, spec.sample_rate, spec.fade_seconds, spec.band_pass)
        seconds = len(samples) / rate
        notes = [] if rate >= USUAL_RATE else [f"sampled at {rate} Hz: lung sounds reach up to 2 kHz"]
        if (largest := float(np.abs(samples).max())) > 1:
            notes.append(f"samples up to {largest:.3g}, where full scale is 1")
        if cycles is None:
            spans, pieces = self.windows(seconds, window, hop, limits.windows), None
            limits.take("windows", len(spans), name)
            notes.insert(0, f"no cycles given: cut into {counted(len(spans), 'window')}")
        else:
            spans = _checked(cycles, seconds, name)
        predicted: list[Prediction] = []
        for first in range(0, len(spans), BATCH):
            some = spans[first : first + BATCH]
            for (start, end), rows in zip(some, self._heard(waveform, some, pieces, name, table), strict=True):
                row, of_pieces = put_together(rows, pieces) if pieces else (rows[0], None)
                heard = samples[int(start * rate) : math.ceil(min(end, seconds) * rate)]
                note = _note(heard, start, end, seconds, spec, of_pieces)
                predicted.append(Prediction(start, end, row, min(end, seconds) - start, note))
        if all("silence" in one.note for one in predicted):
            notes.append("silence")
        return RecordingPrediction(predicted, seconds, rate, "; ".join(notes))

    def windows(
        self, seconds: float, window: float | None = None, hop: float | None = None, most: float = MOST_WINDOWS
    ) -> list[tuple[float, float]]:
        """The windows that a recording of so many seconds is cut into; see the function `windows`.

        Raises:
            UserError: they make no sense, or are longer than what the model takes.
        """
        longest = self.config.feature.seconds
        if window is not None and not 0 < window <= longest:
            raise UserError(f"a window of {window:g} s does not fit the model", hint=f"it takes {longest:g} s at once")
        return windows(seconds, window or longest, hop, most)

    def _heard(
        self,
        waveform: np.ndarray,
        spans: list[tuple[float, float]],
        pieces: Pieces | None,
        name: str,
        table: Sequence[float],
    ) -> list[np.ndarray]:
        """Of each cycle the probabilities of the pieces that are heard of it, ``[pieces, classes]``."""
        spec = self.config.feature
        try:
            if pieces is None:
                cut = [(cut_cycles(waveform, [(start, end)], spec), [end - start]) for start, end in spans]
            else:
                cut = [cut_cycle_pieces(waveform, span, spec) for span in spans]
            waveforms = [piece for found, _ in cut for piece in found]
            seconds = [length for _, found in cut for length in found]
            batches = [slice(first, first + BATCH) for first in range(0, len(waveforms), BATCH)]
            rows = [self._probabilities(waveforms[each], seconds[each], table) for each in batches]
        except UserError as error:
            raise UserError(error.what, where=name, hint=error.hint) from error
        return np.split(np.concatenate(rows), np.cumsum([len(found) for found, _ in cut])[:-1])

    def _probabilities(self, waveforms: list[np.ndarray], seconds: list[float], table: Sequence[float]) -> np.ndarray:
        """``[waveforms, classes]``, finite; waveforms are as the feature takes them, with `seconds` of own sound."""
        import torch

        from workers.inputs import inputs_of

        spec = self.config.feature
        values, beside = spec.compute(waveforms), spec.compute_scalars(waveforms, table)
        if not (np.isfinite(values).all() and (beside is None or np.isfinite(beside).all())):
            raise UserError("its features are not finite numbers", hint="is its audio sound?")
        with torch.inference_mode():
            scalars = None if beside is None else torch.from_numpy(beside).to(self.device)
            shares = None
            if self.config.packed:
                own = self.config.own_frames(np.array(seconds))
                shares = torch.from_numpy(own).to(self.device) / spec.shape[-2]
            logits = self.model(inputs_of(torch.from_numpy(values).to(self.device), scalars, shares)).float()
            rows = logits.softmax(dim=1).cpu().numpy()
        if not np.isfinite(rows).all():
            raise UserError("the model gives no numbers for this sound", hint="its weights are broken")
        return rows


def windows(
    seconds: float, length: float, hop: float | None = None, most: float = MOST_WINDOWS
) -> list[tuple[float, float]]:
    """A recording cut into windows.

    Without a hop they are equal, at most `length` seconds long, and lie side by side. With one each is `length` long
    and begins `hop` after the one before; the last ends with the recording.

    >>> windows(20.0, 8.0)
    [(0.0, 6.666666666666667), (6.666666666666667, 13.333333333333334), (13.333333333333334, 20.0)]
    >>> windows(20.0, 8.0, 5.0)
    [(0.0, 8.0), (5.0, 13.0), (10.0, 18.0), (12.0, 20.0)]

    Raises:
        UserError: the hop is not between 0 and `length`, or there would be more windows than `most`.
    """
    if hop is not None and not 0 < hop <= length:
        raise UserError(f"a hop of {hop:g} s does not fit windows of {length:g} s", hint="0 < hop <= window")
    step = hop or length
    if seconds > most * step:
        raise UserError(f"{seconds:.0f} s give more than {most:,} windows", hint="take longer ones, or less sound")
    if hop is None:
        edges = np.linspace(0.0, seconds, max(1, math.ceil(seconds / length)) + 1).tolist()
        return list(itertools.pairwise(edges))
    last = max(0.0, seconds - length)
    starts = [min(index * hop, last) for index in range(math.ceil(last / hop) + 1)]
    return [(start, min(start + length, seconds)) for start in starts]


def write_model(folder: Path, config: ExperimentConfig, classes: list[str], weights: bytes) -> dict[str, Any]:
    """Lay a model out for `SoundModel`; returns the two files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = config.model_dump(mode="json")
    bare["model"]["pretrained"] = None  # its weights are in the file already
    (folder / CONFIG).write_text(json.dumps({"classes": classes, "config": bare}, indent=1))
    (folder / WEIGHTS).write_bytes(weights)
    return {"config": str(folder / CONFIG), "weights": str(folder / WEIGHTS)}


# --- cycles ---


def _checked(cycles: Sequence[tuple[float, float]], seconds: float, name: str) -> list[tuple[float, float]]:
    if not cycles:
        raise UserError("there is no cycle to classify", where=name, hint="give none at all to have windows cut")
    for start, end in cycles:
        if not 0 <= start < min(end, seconds) or end > seconds + LONGEST:
            raise UserError(f"no cycle from {start} to {end} s in {seconds:.2f} s of sound", where=name)
    return list(cycles)


def _note(heard: np.ndarray, start: float, end: float, seconds: float, spec: Any, of_pieces: str | None) -> str:
    """What makes a cycle's probabilities doubtful, from its own samples, and what is to be said of its pieces."""
    length = min(end, seconds) - start
    notes = []
    if not len(heard) or float(np.abs(heard).max()) < SILENCE:
        notes.append("silence")
    if length < SHORTEST:
        notes.append(f"only {1000 * length:.0f} ms of sound")
    if of_pieces is None and length > spec.seconds + 1e-6:
        notes.append(f"only its {spec.keep} {spec.seconds:g} s are used")
    elif of_pieces:
        notes.append(of_pieces)
    if end > seconds + LATEST:
        notes.append(f"ends {end - seconds:.1f} s after the recording")
    return "; ".join(notes)
