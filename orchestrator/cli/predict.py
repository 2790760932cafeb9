"""`lungtune predict`: a registered or a trained model on recordings, cycle by cycle."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from feature_store.counted import counted
from orchestrator.cli.console import err, out, print_json

if TYPE_CHECKING:
    from feature_store.recording_tables import RecordingTables
    from workers.inference import RecordingPrediction, SoundModel

BESIDE = "beside"


def predict(
    model_name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="champion, NAME@ALIAS, NAME/VERSION, a model's folder, or a fold run by the beginning of its hash",
        ),
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="mono WAV or FLAC files of any rate")],
    cycles: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|beside",
            help="the cycles: a file with start and end in seconds in each line, or `beside` for the .txt beside each "
            "recording; without them windows are cut",
        ),
    ] = None,
    window: Annotated[float | None, typer.Option(help="length of a window, s  [default: the feature's]")] = None,
    hop: Annotated[
        float | None, typer.Option(help="from one window to the next, s  [default: equal windows side by side]")
    ] = None,
    pieces: Annotated[
        Literal["one", "mean", "vote"],
        typer.Option(
            help="of a cycle longer than the feature: the one part that training takes, or all its overlapping pieces, "
            "by the mean of their probabilities or by a vote of the majority"
        ),
    ] = "one",
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="for a model that takes numbers beside the sound: its corpus' list, a row a file by its name",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="OUT", help="also write a row per cycle and recording to a file"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Class probabilities of every cycle and every recording. A file that cannot be read is named, the rest is done.

    Exits with 1 if a file failed, with 2 if all of them did.

    Example: lungtune predict champion recordings/*.wav

    Example: lungtune predict icbhi-lungsound4@champion 101_1b1_Al_sc_Meditron.wav --cycles beside --json

    Example: lungtune predict icbhi-lungsound4@champion recordings/*.wav --cycles beside --pieces vote

    Example: lungtune predict aicup-voice-voice5@champion clips/*.wav --table test_datalist_public.csv
    """
    from feature_store.errors import UserError

    if cycles not in (None, BESIDE) and len(files) > 1:
        raise UserError("one file of cycles belongs to one recording", where="--cycles", hint=f"or --cycles {BESIDE}")
    if pieces != "one" and cycles is None:
        hint = "give the cycles with --cycles, or leave the option out"
        raise UserError("windows are never longer than what the model takes", where="--pieces", hint=hint)
    if csv_file is not None and not csv_file.resolve().parent.is_dir():
        raise UserError("there is no such folder", where=str(csv_file.parent))
    with opened(model_name) as model:
        model.windows(model.config.feature.seconds, window, hop)  # a wrong option is told once, not for every file
        tables = _tables(table, model)
        documents, failed = [], 0
        with err.status("predicting") as status:
            for number, path in enumerate(files, start=1):
                status.update(f"{escape(path.name)} ({number} of {len(files)})")
                try:
                    numbers = tables.of(path) if tables else ()
                    together = None if pieces == "one" else pieces
                    said = model.predict(
                        path, _cycles(cycles, path), window=window, hop=hop, table=numbers, pieces=together
                    )
                    documents.append(_document(path, said, model.classes))
                except UserError as error:
                    failed += 1
                    documents.append({"file": str(path), "error": str(error)})
                    err.print(f"[red]failed:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        if csv_file is not None:
            _write_csv(csv_file, documents, model.classes)
        if as_json:
            print_json(documents)
        elif failed < len(files):
            _show(documents, model.classes)
    if failed:
        raise typer.Exit(2 if failed == len(files) else 1)


@contextlib.contextmanager
def opened(name: str) -> Iterator[SoundModel]:
    """The model by its folder, its fold run's hash, or its name in the registry; its files may go with the context.

    Raises:
        UserError: there is none such.
    """
    import tempfile

    from feature_store.settings import Settings
    from workers.config import ExperimentConfig
    from workers.inference import SoundModel, write_model
    from workers.results import WEIGHTS, ResultStore

    settings = Settings.load()
    if Path(name).is_dir():
        inside = Path(name) / "artifacts"
        yield SoundModel(inside if inside.is_dir() else Path(name))
    elif re.fullmatch(r"[0-9a-f]{4,40}", name):
        results = ResultStore.open(settings.results)
        result = results.find(name)
        config = ExperimentConfig.parse(result.config, where=f"result {result.hash[:12]}")
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), config, result.data.classes, results.read(result.hash, WEIGHTS))
            yield SoundModel(Path(folder))
    else:
        from orchestrator.registry.registry import Registry

        registry = Registry.open(settings, asks=True)
        with registry.files(registry.find(name)) as folder_of_version:
            yield SoundModel(folder_of_version)


def _cycles(option: str | None, recording: Path) -> list[tuple[float, float]] | None:
    """Start and end of each cycle, as the option says; None without it.

    Raises:
        UserError: the file is not there, or a line of it has no two numbers.
    """
    from feature_store.errors import UserError

    if option is None:
        return None
    path = recording.with_suffix(".txt") if option == BESIDE else Path(option)
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the file of cycles cannot be read", where=str(path), hint=str(error)) from error
    spans = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            start, end = (float(word) for word in re.split(r"[\s,;]+", line.strip())[:2])
        except ValueError as error:
            hint = "a line has start and end in seconds; what follows them, such as ICBHI's labels, is not read"
            raise UserError(f"no cycle: '{line.strip()[:60]}'", where=f"{path}, line {number}", hint=hint) from error
        spans.append((start, end))
    return spans


def _tables(path: Path | None, model: SoundModel) -> RecordingTables | None:
    """What the model takes beside the sounds; None where it hears them alone.

    Raises:
        UserError: it takes something and no list is given, or the other way round, or the list cannot be used.
    """
    from feature_store.errors import UserError
    from feature_store.recording_tables import RecordingTables

    wanted = model.config.feature.table
    if not wanted and path is not None:
        raise UserError("the model hears the sound alone", where="--table", hint="leave the option out")
    if wanted and path is None:
        raise UserError(
            f"the model takes {counted(wanted, 'number')} beside each sound",
            where="lungtune predict",
            hint=f"give the list that has them, with the columns of {model.config.dataset}: --table CSV",
        )
    return None if path is None else RecordingTables.read(model.config.dataset, path)


def _document(path: Path, said: RecordingPrediction, classes: list[str]) -> dict[str, Any]:
    def row(probabilities: Any, note: str) -> dict[str, Any]:
        named = dict(zip(classes, probabilities.tolist(), strict=True))
        return {"label": classes[int(probabilities.argmax())], "probabilities": named, "note": note}

    return {
        "file": str(path),
        "seconds": said.seconds,
        "rate": said.rate,
        "recording": row(said.probabilities, said.note),
        "cycles": [{"start": one.start, "end": one.end, **row(one.probabilities, one.note)} for one in said.cycles],
    }


def _rows(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, float, dict[str, Any]]]:
    """File, level, start, end and the rest of every row: a recording's first, then its cycles'."""
    for document in documents:
        if "error" not in document:
            yield document["file"], "recording", 0.0, document["seconds"], document["recording"]
            for cycle in document["cycles"]:
                yield document["file"], "cycle", cycle["start"], cycle["end"], cycle


def _write_csv(path: Path, documents: list[dict[str, Any]], classes: list[str]) -> None:
    from feature_store.errors import UserError, printable
    from orchestrator.csv_cells import cells

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(cells(["file", "level", "start", "end", "label", "note", *classes]))
            for name, level, start, end, row in _rows(documents):
                probabilities = [row["probabilities"][label] for label in classes]
                row_cells = [printable(name), level, start, end, row["label"], row["note"], *probabilities]
                writer.writerow(cells(row_cells))
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(path)) from error


def _show(documents: list[dict[str, Any]], classes: list[str]) -> None:
    from rich.table import Table

    from feature_store.errors import printable

    table = Table(title="probabilities; a recording's are the mean over its cycles, weighted by their seconds")
    table.add_column("recording", overflow="fold")
    for name in ("seconds", "class", *classes, "note"):
        table.add_column(name, justify="left" if name in {"class", "note"} else "right")
    for name, level, start, end, row in _rows(documents):
        whole = level == "recording"
        place = [escape(printable(Path(name).name)), f"{end:.1f}"] if whole else ["", f"{start:.2f} to {end:.2f}"]
        numbers = [f"{row['probabilities'][label]:.3f}" for label in classes]
        table.add_row(*place, row["label"], *numbers, row["note"], style="bold" if whole else None)
    out.print(table)
