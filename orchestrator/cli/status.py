"""`lungtune status`: how far a sweep is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from feature_store.counted import counted
from orchestrator.cli.console import out, print_json


def status(
    study: Annotated[str | None, typer.Argument(help="a study, or the beginning of its name; all if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")] = False,
) -> None:
    """Trials by state, the best so far, what is being trained, what failed; read without touching the sweep.

    Example: lungtune status icbhi-cpu
    """
    from dataclasses import asdict

    from feature_store.settings import Settings
    from orchestrator.studies.status import status_of
    from orchestrator.studies.storage import studies

    settings = Settings.load()
    names = [study] if study else studies(settings)
    found = [status_of(name, settings) for name in names]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        out.print("no sweep has been started here yet")
    for one in found:
        _show(one)


def importance(
    study: Annotated[str, typer.Argument(help="a study, or the beginning of its name")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Which parameters decided what the trials reached, family by family.

    Example: lungtune importance icbhi-cpu
    """
    from rich.table import Table

    from feature_store.settings import Settings
    from orchestrator.studies.importance import importances

    found = importances(study, Settings.load())
    if as_json:
        print_json(found)
        return
    table = Table(title="share of each parameter in the spread of the trials' means (PED-ANOVA)")
    for name in ("family", "parameter", "share"):
        table.add_column(name, justify="right" if name == "share" else "left")
    for family, shares in found.items():
        for parameter, share in shares.items():
            table.add_row(family, parameter, f"{share:.2f}")
    out.print(table)


def _show(status: Any) -> None:
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(status.states.items())) or "none yet"
    lines = [f"[bold]{status.study}[/bold]: trials: {states}; {counted(status.fold_runs, 'fold run')}"]
    if best := status.best:
        lines.append(f"  best: trial {best.trial} {best.family} at {best.value:.2f}")
    for trial in status.running:
        value = "" if trial.value is None else f", mean {trial.value:.2f}"
        lines.append(f"  running: trial {trial.trial} {trial.family}, {counted(trial.fold_runs, 'fold')}{value}")
    lines += [f"  training: {run[:12]} for {seconds:.0f} s" for run, seconds in status.training]
    if status.running and status.idle_seconds is not None and not status.training:
        lines.append(f"  no fold run is being trained; the last event was {status.idle_seconds:.0f} s ago")
    for trial in status.failed:
        alone = f"lungtune train --trial {status.study}/{trial.trial}"
        lines.append(f"  [red]failed:[/red] trial {trial.trial}: {trial.error} (alone: {alone})")
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
