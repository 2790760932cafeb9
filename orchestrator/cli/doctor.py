"""`lungtune doctor`: what is wrong with this installation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.console import out, print_json

SIGNS = {"ok": "[green]ok[/green]", "warn": "[yellow]look[/yellow]", "fail": "[red]wrong[/red]"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False) -> None:
    """Versions, GPUs, cluster, stores and servers: what is wrong, and how to mend it. Exit code 1 if something is.

    Example: lungtune doctor
    """
    from rich.table import Table

    from feature_store.settings import Settings
    from orchestrator.diagnosis.machine import examine

    checks = examine(Settings.load())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        table = Table(title="lungtune doctor")
        for name in ("", "looked at", "found", "to mend it"):
            table.add_column(name, overflow="fold")
        for check in checks:
            table.add_row(SIGNS[check.state], check.name, check.found, check.mend)
        out.print(table)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)
