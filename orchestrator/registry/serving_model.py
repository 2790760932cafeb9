"""MLflow's model from code: loaded by `mlflow.pyfunc.load_model`, nothing in it is pickled."""

from __future__ import annotations

import base64
import binascii
import logging
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from feature_store.counted import counted
from feature_store.errors import UserError
from workers.inference import RecordingPrediction, SoundModel
from workers.sound import Limits, Sound, Waveform

PATHS = "LUNGTUNE_SERVE_PATHS"  # a folder whose files may be read; not set: none are
SOUNDS = ("path", "audio", "samples")
QUOTED = 60  # characters of a value in a message
SERVER = "mlflow.pyfunc.scoring_server.app"


class RespiratorySoundModel(PythonModel):
    """Rows of sound to class probabilities, a row per cycle and one per recording.

    A row has one of ``path`` (of a file in the folder that `LUNGTUNE_SERVE_PATHS` names; without it none is read),
    ``audio`` (the bytes of a WAV or FLAC file) and ``samples`` (in [-1, 1], with their ``rate`` in Hz). Where cycles
    are known, it has ``cycles``, a list of pairs of seconds, or ``start`` and ``end`` of one; several rows with one
    path are cycles of one recording. A recording without any is cut into windows; the parameters ``window_seconds`` and
    ``hop_seconds`` tell their length and distance. A model whose feature takes numbers beside the sound wants ``table``
    too: the cells of the recording's row in its corpus' list, by their columns.

    The answer's columns: ``row`` (number of the recording's first row), ``recording`` (its path, or ``row N``),
    ``level`` (``cycle``, which a window is too, or ``recording``), ``start``, ``end``, ``label``, ``note`` (what makes
    the row doubtful), and the probability of each class. A recording's are the mean over its cycles, weighted by their
    seconds.

    All rows of an input together may cost as much as `workers.sound.Limits.of_a_request` says.

    Raises:
        MlflowException: bad input, or too much; a server answers with status 400 and the message.
    """

    def load_context(self, context: Any) -> None:
        """Load the model, and refuse settings that make no sense before anything is asked."""
        Limits.of_a_request()
        _readable_folder()
        self.model = SoundModel(Path(context.artifacts["weights"]).parent)
        if SERVER in sys.modules:
            _keep_traces_out_of_answers()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a cycle and one a recording; see the class."""
        params = params or {}
        try:
            answer: list[dict[str, Any]] = []
            limits = Limits.of_a_request()
            windows = {"window": params.get("window_seconds"), "hop": params.get("hop_seconds")}
            for one in _recordings(model_input, limits):
                numbers = self._numbers(one)
                said = self.model.predict(one.sound, one.cycles, **windows, name=one.name, table=numbers, limits=limits)
                answer += self._rows(one.row, one.name, said)
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        except Exception as error:  # MLflow would answer with its stack trace
            logging.getLogger(__name__).exception("an input could not be answered")
            told = f"the model cannot answer this input ({type(error).__name__}); the server's log says more"
            raise MlflowException(told, error_code=INTERNAL_ERROR) from None
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
            raise UserError(
                f"the model takes {counted(config.feature.table, 'number')} beside each sound", where=where, hint=hint
            )
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


def _recordings(table: Any, limits: Limits) -> list[Recording]:
    """Every recording that the rows name.

    Raises:
        UserError: a row has no sound or more than one, or what belongs to it is missing or not of its kind; or there
            are more cycles than the limits have, which are left as they were.
    """
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise UserError("there is no row", hint=f"a row has one of the columns {', '.join(SOUNDS)}")
    found: list[Recording] = []
    of_path: dict[str, Recording] = {}
    given = 0
    for number, row in enumerate(table.to_dict(orient="records")):
        where, beside = f"row {number}", row.get("table")
        cycles = _cycles(row, where, limits.cycles - given)
        given += len(cycles or ())
        kinds = [kind for kind in SOUNDS if not _missing(row.get(kind))]
        if len(kinds) != 1:
            told = " and ".join(kinds) or "none of them"
            raise UserError(f"a row has one of {', '.join(SOUNDS)}; this one has {told}", where=where)
        if kinds == ["path"]:
            path = row["path"]
            if not isinstance(path, str):
                raise UserError(f"path is not text: {_quoted(path)}", where=where)
            if path in of_path:
                known = of_path[path]
                if known.cycles is None or cycles is None:
                    hint = "give every row of a recording its cycle, or have one row"
                    what = f"{_quoted(path)} appears in several rows, one of them without a cycle"
                    raise UserError(what, where=where, hint=hint)
                if not _missing(beside) and beside != known.table:
                    hint = f"that of row {known.row} counts for all its rows"
                    what = f"{_quoted(path)} appears in several rows with another table"
                    raise UserError(what, where=where, hint=hint)
                known.cycles.extend(cycles)
                continue
            of_path[path] = Recording(number, path, _allowed(path, where), cycles, beside)
            found.append(of_path[path])
        elif kinds == ["audio"]:
            found.append(Recording(number, where, _bytes(row["audio"], where), cycles, beside))
        else:
            rate = _number(row.get("rate"), "rate", where)
            try:
                with np.errstate(over="ignore"):  # 1e308 becomes infinite, and is refused as such
                    samples = np.asarray(row["samples"], dtype=np.float32)
            except (TypeError, ValueError, OverflowError) as error:
                raise UserError("samples are not a list of numbers", where=where) from error
            found.append(Recording(number, where, Waveform(samples, rate), cycles, beside))
    return found


def _cycles(row: dict[Any, Any], where: str, most: float) -> list[tuple[float, float]] | None:
    """A row's cycles; None where it names none.

    Raises:
        UserError: they are no pairs of numbers, or more than `most`.
    """
    given, times = row.get("cycles"), [row.get("start"), row.get("end")]
    if _missing(given):
        if all(_missing(time) for time in times):
            return None
        start, end = (_number(time, name, where) for time, name in zip(times, ("start", "end"), strict=True))
        return [(start, end)]
    if not all(_missing(time) for time in times):
        raise UserError("give cycles, or start and end, not both", where=where)
    pairs: list[Any] = [] if given is None or not _listed(given) else list(given)
    Limits(cycles=most).take("cycles", len(pairs), where)
    if not pairs or any(not _listed(pair) or len(pair) != 2 for pair in pairs):
        raise UserError(
            "cycles are a list of pairs of seconds", where=where, hint="for example [[0.0, 2.1], [2.1, 4.0]]"
        )
    return [(_number(start, "cycles", where), _number(end, "cycles", where)) for start, end in pairs]


def _readable_folder() -> Path | None:
    """The folder whose files may be read for whoever asks; None where there is none.

    Raises:
        UserError: `LUNGTUNE_SERVE_PATHS` names no folder.
    """
    place = os.environ.get(PATHS, "").strip()
    if place in ("", "0"):
        return None
    if not Path(place).is_dir():
        raise UserError(f"'{place}' is no folder", where=PATHS, hint="name a folder of recordings, or leave it out")
    return Path(place).resolve()


def _allowed(path: str, where: str) -> Path:
    """A sound file in the folder whose files may be read, with its links followed.

    Raises:
        UserError: it is none; the message is the same whether there is such a file or not.
    """
    import soundfile

    folder = _readable_folder()
    if folder is None:
        raise UserError("this server reads no files", where=where, hint="send `audio` or `samples`")
    try:
        file = (folder / path).resolve()
        if file.is_relative_to(folder) and file.is_file():
            with soundfile.SoundFile(os.fsencode(file)):
                return file
    except (OSError, ValueError, RuntimeError):  # a NUL; a circle of links; libsndfile's are RuntimeErrors
        pass
    hint = f"a WAV or FLAC file in the folder that {PATHS} names; or send `audio` or `samples`"
    raise UserError(f"this server reads no sound file of the name {_quoted(path)}", where=where, hint=hint)


def _bytes(audio: Any, where: str) -> bytes:
    """The bytes of a file, as they are or in base64.

    Raises:
        UserError: they are neither.
    """
    if isinstance(audio, bytes | bytearray):
        return bytes(audio)
    if isinstance(audio, str):
        try:
            return base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            hint = "encode the bytes of the file: base64 -w0 recording.wav"
            raise UserError(f"audio is not base64: {_quoted(audio)}", where=where, hint=hint) from error
    what = f"audio are the bytes of a file, not {type(audio).__name__}"
    raise UserError(what, where=where, hint="base64 in JSON")


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def _keep_traces_out_of_answers() -> None:
    """MLflow's server adds its stack trace, with the paths of the installation, to some answers (CSV, Parquet).

    It puts them in before the model is asked, so that only the text of the answer is left to change.
    """
    plain = MlflowException.serialize_as_json

    def without_trace(self: MlflowException) -> str:
        self.json_kwargs.pop("stack_trace", None)
        return plain(self)

    MlflowException.serialize_as_json = without_trace  # type: ignore[method-assign]


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if _missing(value) or not math.isfinite(number):
        raise UserError(f"{name} is not a number: {_quoted(value)}", where=where)
    return number


def _missing(value: Any) -> bool:
    """Whether a table's cell is empty: absent, None or NaN; a list never is."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


mlflow.models.set_model(RespiratorySoundModel())
