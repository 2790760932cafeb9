"""MLflow's model from code: loaded by `mlflow.pyfunc.load_model`, nothing in it is pickled."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from feature_store.errors import UserError
from workers.inference import RecordingPrediction, Sound, SoundModel, Waveform

PATHS = "LUNGTUNE_SERVE_PATHS"  # 0: none are read; a folder: only files in it; not set or 1: any
SOUNDS = ("path", "audio", "samples")


class RespiratorySoundModel(PythonModel):
    """Rows of sound to class probabilities, a row a cycle and one a recording.

    A row has one of ``path`` (of a file on the machine that predicts), ``audio`` (the bytes of a WAV or FLAC file) and
    ``samples`` (in [-1, 1], with their ``rate`` in Hz). Where cycles are known, it has ``cycles``, a list of pairs of
    seconds, or ``start`` and ``end`` of one; several rows with one path are cycles of one recording. A recording
    without any is cut into windows; the parameters ``window_seconds`` and ``hop_seconds`` tell their length and
    distance. A model whose feature takes numbers beside the sound wants ``table`` too: the cells of the recording's row
    in its corpus' list, by their columns.

    The answer's columns: ``row`` (number of the recording's first row), ``recording`` (its path, or ``row N``),
    ``level`` (``cycle``, which a window is too, or ``recording``), ``start``, ``end``, ``label``, ``note`` (what makes
    the row doubtful), and the probability of each class. A recording's are the mean over its cycles, weighted by their
    seconds.

    Raises:
        MlflowException: bad input; a server answers with status 400 and the message.
    """

    def load_context(self, context: Any) -> None:
        self.model = SoundModel(Path(context.artifacts["weights"]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a cycle and one a recording; see the class."""
        params = params or {}
        try:
            answer: list[dict[str, Any]] = []
            windows = {"window": params.get("window_seconds"), "hop": params.get("hop_seconds")}
            for one in _recordings(model_input):
                numbers = self._numbers(one)
                said = self.model.predict(one.sound, one.cycles, **windows, name=one.name, table=numbers)
                answer += self._rows(one.row, one.name, said)
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(answer)

    def _numbers(self, recording: Recording) -> tuple[float, ...]:
        """What the model takes beside the sound.

        Raises:
            UserError: the row does not have it, or a cell of it is none of its column.
        """
        from feature_store.recording_tables import encode_cells  # which reads in all corpora

        config, where = self.model.config, f"row {recording.row}"
        if not config.feature.table:
            return ()
        if not isinstance(recording.table, Mapping):
            hint = f"give `table`, the columns of {config.dataset} and their values"
            raise UserError(f"the model takes {config.feature.table} numbers beside each sound", where=where, hint=hint)
        cells = {column: None if _missing(cell) else cell for column, cell in recording.table.items()}
        return encode_cells(config.dataset, cells, f"{where}, table")

    def _rows(self, first: int, name: str, said: RecordingPrediction) -> list[dict[str, Any]]:
        def row(level: str, start: float, end: float, probabilities: np.ndarray, note: str) -> dict[str, Any]:
            label = self.model.classes[int(probabilities.argmax())]
            facts = {"row": first, "recording": name, "level": level, "start": start, "end": end}
            named = zip(self.model.classes, probabilities.tolist(), strict=True)
            return {**facts, "label": label, "note": note, **dict(named)}

        cycles = [row("cycle", one.start, one.end, one.probabilities, one.note) for one in said.cycles]
        return [*cycles, row("recording", 0.0, said.seconds, said.probabilities, said.note)]


@dataclass(frozen=True)
class Recording:
    """What the rows of one recording say.

    Attributes:
        row: number of the first of them.
        cycles: None where they name none.
        table: of the first of them, unchecked.
    """

    row: int
    name: str
    sound: Sound
    cycles: list[tuple[float, float]] | None
    table: Any


def _recordings(table: pd.DataFrame) -> list[Recording]:
    """Every recording that the rows name.

    Raises:
        UserError: a row has no sound or more than one, or what belongs to it is missing or not of its kind.
    """
    if table.empty:
        raise UserError("there is no row", hint=f"a row has one of the columns {', '.join(SOUNDS)}")
    found: list[Recording] = []
    of_path: dict[str, Recording] = {}
    for number, row in enumerate(table.to_dict(orient="records")):
        where, beside = f"row {number}", row.get("table")
        cycles = _cycles(row, where)
        kinds = [kind for kind in SOUNDS if not _missing(row.get(kind))]
        if len(kinds) != 1:
            told = " and ".join(kinds) or "none of them"
            raise UserError(f"a row has one of {', '.join(SOUNDS)}; this one has {told}", where=where)
        if kinds == ["path"]:
            path = str(row["path"])
            if path in of_path:
                known = of_path[path]
                if known.cycles is None or cycles is None:
                    hint = "give every row of a recording its cycle, or have one row"
                    raise UserError(
                        f"'{path}' stands in several rows, one of them without a cycle", where=where, hint=hint
                    )
                if not _missing(beside) and beside != known.table:
                    hint = f"that of row {known.row} counts for all its rows"
                    raise UserError(f"'{path}' stands in several rows with another table", where=where, hint=hint)
                known.cycles.extend(cycles)
                continue
            of_path[path] = Recording(number, path, _allowed(path), cycles, beside)
            found.append(of_path[path])
        elif kinds == ["audio"]:
            found.append(Recording(number, where, _bytes(row["audio"], where), cycles, beside))
        else:
            rate = _number(row.get("rate"), "rate", where)
            try:
                samples = np.asarray(row["samples"], dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise UserError("samples are not a list of numbers", where=where) from error
            found.append(Recording(number, where, Waveform(samples, rate), cycles, beside))
    return found


def _cycles(row: dict[Any, Any], where: str) -> list[tuple[float, float]] | None:
    """A row's cycles; None where it names none."""
    given, times = row.get("cycles"), [row.get("start"), row.get("end")]
    if _missing(given):
        if all(_missing(time) for time in times):
            return None
        start, end = (_number(time, name, where) for time, name in zip(times, ("start", "end"), strict=True))
        return [(start, end)]
    if not all(_missing(time) for time in times):
        raise UserError("give cycles, or start and end, not both", where=where)
    pairs = [] if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str) else list(given)
    if not pairs or any(isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2 for pair in pairs):
        raise UserError(
            "cycles are a list of pairs of seconds", where=where, hint="for example [[0.0, 2.1], [2.1, 4.0]]"
        )
    return [(_number(start, "cycles", where), _number(end, "cycles", where)) for start, end in pairs]


def _allowed(path: str) -> Path:
    """The file, if this process may read files for whoever asks.

    Raises:
        UserError: `LUNGTUNE_SERVE_PATHS` forbids it.
    """
    place = os.environ.get(PATHS, "1")
    if place == "0":
        hint = "send `audio` or `samples`"
        raise UserError("this server reads no files", where=path, hint=hint)
    if place not in ("", "1") and not Path(path).resolve().is_relative_to(Path(place).resolve()):
        raise UserError("this server reads no files from there", where=path, hint="send `audio` or `samples`")
    return Path(path)


def _bytes(audio: Any, where: str) -> bytes:
    if not isinstance(audio, bytes | bytearray):
        raise UserError(
            f"audio are the bytes of a file, not {type(audio).__name__}", where=where, hint="base64 in JSON"
        )
    return bytes(audio)


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if _missing(value) or math.isnan(number):
        raise UserError(f"{name} is not a number: {value!r}", where=where)
    return number


def _missing(value: Any) -> bool:
    """Whether a table's cell is empty: absent, None or NaN; a list never is."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


mlflow.models.set_model(RespiratorySoundModel())
