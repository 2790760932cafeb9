"""`lungtune data`: fetch a corpus, look at it before anything is built from it, or make a synthetic one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from feature_store import icbhi_download
from feature_store.audit import AuditReport, ProblemRow, audit
from feature_store.counted import counted
from feature_store.datasets import CORPORA, broken_adapters, open_corpus
from feature_store.errors import UserError, nearest
from feature_store.splits import COMPAT
from orchestrator.cli.console import err, out, print_json

app = typer.Typer(
    help="Fetch ICBHI; check recordings, annotations and splits; write a synthetic corpus.", no_args_is_help=True
)

DOWNLOADS = ("icbhi",)
SHOWN = 20  # problems of one kind that the table lists


@app.callback()
def _data() -> None:
    """Fetch ICBHI; check recordings, annotations and splits; write a synthetic corpus."""


@app.command()
def check(
    root: Annotated[Path, typer.Option(help="Folder of the corpus.")],
    dataset: Annotated[str, typer.Option(help=f"Which corpus: {', '.join(sorted(CORPORA))}.")] = "icbhi",
    task: Annotated[
        str | None, typer.Option(help="Task whose classes the split table shows (default: the first).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    all_problems: Annotated[
        bool, typer.Option("--all", help=f"List every problem and shared patient, not {SHOWN} of a kind.")
    ] = False,
) -> None:
    """Count recordings, cycles and labels; name broken files; find patients on both sides of a split.

    Exits with 2 if a file is wrong (what is good is counted all the same), else with 0.

    Example: lungtune data check --dataset icbhi --root ~/icbhi
    """
    with err.status("reading annotations and audio"):
        corpus = open_corpus(dataset, root)
        task = task or next(iter(corpus.classes))
        if task not in corpus.classes:
            raise UserError(f"{dataset} has no task '{task}'", where="--task", hint=nearest(task, corpus.classes))
        report = audit(corpus)
    for error in broken_adapters():
        err.print(f"[yellow]an adapter cannot be used:[/yellow] {escape(str(error))}", soft_wrap=True, highlight=False)
    if as_json:
        print_json(report.model_dump() | {"errors": report.errors, "completeness": report.completeness})
    else:
        _print(report, task, all_problems)
    raise typer.Exit(2 if report.errors else 0)


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help=f"Which corpus: {', '.join(DOWNLOADS)}.")],
    root: Annotated[Path, typer.Option(help="Folder that the corpus is put into.")],
    mirror: Annotated[
        str, typer.Option(help="URL of the folder that the files are fetched from.")
    ] = icbhi_download.SITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Fetch the ICBHI 2017 database (about 2 GB), its official split and its lists, unpack them and check them.

    The same command again goes on where it was stopped, and fetches nothing that is there. A file that you put into
    the folder by hand counts. Exits with 0 only if all recordings of the official split are there and good.

    Example: lungtune data download icbhi --root ~/icbhi
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    if dataset not in DOWNLOADS:
        raise UserError(f"there is no download of '{dataset}'", hint=nearest(dataset, DOWNLOADS))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err) as bar:
        lines: dict[str, Any] = {}

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in lines:
                lines[name] = bar.add_task(name)
            bar.update(lines[name], completed=done, total=total)

        def note(text: str) -> None:
            err.print(f"[yellow]{text}[/yellow]", soft_wrap=True, highlight=False)

        found = icbhi_download.download(root, mirror, progress=advance, note=note)
    if as_json:
        report = found.audit.model_dump() | {"errors": found.audit.errors, "completeness": found.audit.completeness}
        print_json(asdict(found) | {"missing": found.missing, "audit": report})
    else:
        _print_download(found)
    if found.missing:
        hint = f"move what is wrong, or the whole folder {found.parts[0].path}, away and run the same command again"
        raise UserError(f"not the whole database: {found.missing}", where=found.root, hint=hint)


@app.command()
def synthesize(
    dest: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or new.")],
    patients: Annotated[int, typer.Option(min=10, help="Number of patients.")] = 16,
    recordings: Annotated[int, typer.Option(min=1, max=7, help="Recordings of each patient.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same corpus.")] = 0,
) -> None:
    """Write made-up lung sounds in the format of ICBHI: to try everything without the database.

    Example: lungtune data synthesize ./synthetic --patients 16
    """
    from feature_store.datasets.synthetic import synthesize as write

    with err.status(f"synthesising {counted(patients * recordings, 'recording')}"):
        write(dest, patients=patients, recordings_per_patient=recordings, seed=seed)
    report = audit(open_corpus("icbhi", dest))
    out.print(f"{counted(report.recordings, 'recording')}, {_cycles(report)} in {dest}")
    out.print(f"Next: lungtune data check --root {dest}", highlight=False)


def _print_download(found: icbhi_download.Download) -> None:
    table = _table("what", "state", "where", numbers=[])
    for part in found.parts:
        table.add_row(part.what, part.state, part.path)
    out.print(table)
    for row in found.corrected:
        out.print(f"A row of the split now names the recording as its file does: {row}", highlight=False)
    report = found.audit
    out.print(f"\n{_recordings(report)}, {_cycles(report)}", highlight=False)
    _print_problems(report, all_problems=False)
    if found.archives:
        out.print(f"Unpacked, no longer needed: {', '.join(found.archives)}", highlight=False, soft_wrap=True)
    out.print(f"Next: lungtune data check --root {found.root}", highlight=False, soft_wrap=True)


def _print(report: AuditReport, task: str, all_problems: bool) -> None:
    mark = "  [yellow]SYNTHETIC[/yellow]" if report.synthetic else ""
    out.print(f"[bold]{report.dataset}[/bold]  {report.root}{mark}", highlight=False)
    audio = "" if report.audio else ", annotations only (no audio)"
    out.print(f"{_recordings(report)}; {_cycles(report)}{audio}", highlight=False)
    if report.stands_in:
        out.print(f"The corpus names no patients: {report.stands_in} stands in for one.", highlight=False)
    out.print()
    _print_table("Cycles by label", _label_table(report))
    if report.sides:
        _print_table(f"Splits, classes of {task}", _side_table(report, task))
    where = f" of split {report.sides[0].split}" if report.sides else ""
    _print_table(f"Devices{where}: cycles / recordings / patients", _device_table(report))
    _print_leakage(report, all_problems)
    _print_shared_sounds(report)
    _print_published(report)
    _print_problems(report, all_problems)


def _label_table(report: AuditReport) -> Table:
    table = _table("task", "class", numbers=["cycles", "share"])
    for task, counts in report.totals.items():
        for name, count in counts.items():
            table.add_row(task, name, f"{count:,}", f"{count / max(report.cycles, 1):.1%}")
            task = ""
        table.add_section()
    return table


def _side_table(report: AuditReport, task: str) -> Table:
    """A heading for each split, then a row for each side of its folds: narrow enough for 80 columns."""
    classes = list(report.totals[task])
    folds = {side.split: len({s.fold for s in report.sides if s.split == side.split}) for side in report.sides}
    table = _table("split", numbers=["patients", "recordings", "cycles", *classes])
    previous = ""
    for side in report.sides:
        if previous != side.split:
            table.add_section()
            table.add_row(Text(side.split, style="bold"))
        counts = [side.patients, side.recordings, side.cycles, *(side.labels[task].get(name, 0) for name in classes)]
        name = f"  fold {side.fold} {side.side}" if folds[side.split] > 1 else f"  {side.side}"
        table.add_row(name, *(f"{count:,}" for count in counts))
        previous = side.split
    return table


def _device_table(report: AuditReport) -> Table:
    """Devices of the first split's sides, beside those of the whole corpus."""
    rows: dict[str, dict[str, str]] = {}
    first = report.sides[0].split if report.sides else ""
    for row in [
        *report.all_devices,
        *(d for d in report.devices if (d.split, d.fold) == (first, report.sides[0].fold)),
    ]:
        rows.setdefault(row.device, {})[row.side] = f"{row.cycles:,} / {row.recordings:,} / {row.patients:,}"
    sides = ["train", "test"] if report.sides else []
    table = _table("device", numbers=["all", *sides])
    for device, cells in rows.items():
        table.add_row(device, *(cells.get(side, "-") for side in ("", *sides)))
    return table


def _print_leakage(report: AuditReport, everyone: bool) -> None:
    if not report.overlaps:
        return
    leaking = [overlap for overlap in report.overlaps if overlap.patients]
    dirty = {overlap.split for overlap in leaking}
    clean = [name for name in dict.fromkeys(overlap.split for overlap in report.overlaps) if name not in dirty]
    if leaking:
        table = _table("split", "fold", "patient", numbers=["train", "test"])
        for overlap in leaking:
            for row in overlap.patients if everyone else overlap.patients[:SHOWN]:
                train, test = (
                    f"{row.train_cycles} / {row.train_recordings}",
                    f"{row.test_cycles} / {row.test_recordings}",
                )
                table.add_row(overlap.split, str(overlap.fold), row.patient, train, test)
        _print_table("Patients on both sides: cycles / recordings", table)
        tested = {(side.split, side.fold): side.cycles for side in report.sides if side.side == "test"}
        for overlap in leaking:
            all_tested, shared = tested[overlap.split, overlap.fold], sum(row.test_cycles for row in overlap.patients)
            count = f"{overlap.split}, fold {overlap.fold}: {counted(len(overlap.patients), 'patient')} on both sides"
            of_all = counted(all_tested, "tested cycle is", "tested cycles are")
            out.print(f"{count}; {shared:,} of {of_all} theirs ({shared / all_tested:.1%}).", highlight=False)
        if not everyone and any(len(overlap.patients) > SHOWN for overlap in leaking):
            out.print(f"Only {SHOWN} of a fold are shown (--all lists them).")
        out.print()
        for overlap in leaking:
            if twice := overlap.recordings_on_both_sides:
                never = ": its Scores are never ranked" if overlap.split.startswith(COMPAT) else ""
                what = counted(twice, "recording is", "recordings are")
                where = f"{overlap.split}{never}"
                out.print(f"[yellow]{what} trained and tested on in {where}.[/yellow]\n", highlight=False)
    if clean:
        out.print(f"No patient is on both sides of {', '.join(clean)}.\n", highlight=False)


def _print_shared_sounds(report: AuditReport) -> None:
    sounds = report.shared_sounds
    if sounds:
        names = sum(len(sound.recordings) for sound in sounds)
        counts = {
            "on both sides of a split": sum(bool(sound.on_both_sides) for sound in sounds),
            "under two patients": sum(len(sound.patients) > 1 for sound in sounds),
            "with two labels": sum(sound.labels_differ for sound in sounds),
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        known = counted(len(sounds), "sound has", "sounds have")
        out.print(f"[yellow]{known} {counted(names, 'name')}: {told}.[/yellow]\n", highlight=False)


def _print_published(report: AuditReport) -> None:
    agreeing = sum(row.agrees for row in report.published)
    if report.published and agreeing == len(report.published):
        reproduced = counted(agreeing, "published count is", "published counts are")
        out.print(f"[green]All {reproduced} reproduced.[/green]\n")
    elif report.published:
        differing = len(report.published) - agreeing
        of_all = counted(len(report.published), "published count differs", "published counts differ")
        out.print(f"[red]{differing} of {of_all}.[/red]\n")


def _print_problems(report: AuditReport, all_problems: bool) -> None:
    if not report.problems:
        out.print("[green]No problems.[/green]")
        return
    for severity, colour in (("error", "red"), ("warning", "yellow")):
        rows = [problem for problem in report.problems if problem.severity == severity]
        if rows:
            out.print(f"[{colour} bold]{counted(len(rows), severity)}[/{colour} bold]")
        for problem in rows if all_problems else rows[:SHOWN]:
            _print_problem(problem, report.root)
        if len(rows) > SHOWN and not all_problems:
            out.print(f"  ... and {len(rows) - SHOWN} more (--all lists them)", highlight=False)
    if report.errors:
        out.print("\nWhat has an error is left out; everything else can be used.", highlight=False)


def _print_problem(problem: ProblemRow, root: str) -> None:
    where = problem.where.removeprefix(f"{root}/")
    out.print(f"  {where}: {problem.what}", highlight=False, markup=False, soft_wrap=True)
    if problem.hint:
        out.print(f"      {problem.hint}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _recordings(report: AuditReport) -> str:
    in_all = report.recordings if report.complete else report.recordings_listed
    return f"{report.completeness.rpartition(' ')[0]} {counted(in_all, 'recording')}"


def _cycles(report: AuditReport) -> str:
    return f"{counted(report.cycles, 'cycle')} of {counted(report.patients, 'patient')}"


def _table(*words: str, numbers: list[str]) -> Table:
    padding = (0, 2 if out.width >= 100 else 0, 0, 0)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False)
    for word in words:
        table.add_column(word)
    for word in numbers:
        table.add_column(word, justify="right")
    return table


def _print_table(title: str, table: Table) -> None:
    out.print(title, style="bold", highlight=False)
    out.print(table)
    out.print()
