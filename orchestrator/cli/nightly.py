"""`lungtune nightly`: check every registered model, rebuild the board, say what changed."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from feature_store.errors import UserError
from orchestrator.cli.console import err, out, print_json


def nightly(
    out_folder: Annotated[
        str | None, typer.Option("--out", help="the board's folder or s3:// URI; in LUNGTUNE_HOME if not given")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of Markdown")] = False,
) -> None:
    """Run every registered model again from its weights, rebuild the board, and say what changed since the last time.

    Exits with 1 if a model or an entry is no longer what was stored of it, and with 2 if the night could not be done.
    News also goes to the webhook, if there is one. On a cluster: ray job submit --working-dir . -- python -m
    orchestrator nightly --out s3://bucket/leaderboard

    Example: lungtune nightly --out site
    """
    from feature_store.settings import Settings
    from orchestrator.cli.progress import line
    from orchestrator.execution.cluster import connect
    from orchestrator.nightly import run_night
    from orchestrator.tracking.webhook import Webhook

    settings, webhook = Settings.load(), Webhook.around(lambda event: err.print(line(event), soft_wrap=True))
    try:
        if os.environ.get("RAY_ADDRESS"):
            connect()  # the models then run on the cluster's GPUs
        with err.status("beginning") as status:
            night = run_night(
                settings,
                out_folder or settings.home / "leaderboard",
                say=status.update,
                warn=lambda text: err.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True),
            )
        if webhook:
            webhook.post("nightly", night.changes.summary, changes=night.changes.model_dump(mode="json"))
    except BaseException as error:
        if webhook:
            webhook.post("nightly_stopped", f"the nightly run stopped: {type(error).__name__}")
        if isinstance(error, Exception) and not isinstance(error, UserError):  # 1 means: done, and somebody must look
            raise crashed(error) from error
        raise
    finally:
        if webhook:
            webhook.close()
    if as_json:
        changes = night.changes.model_dump(mode="json")
        print_json({"changes": changes, "warnings": night.warnings, "files": night.files, "board": night.board})
    else:
        out.print(night.report, markup=False, highlight=False, soft_wrap=True)
        for place in night.files.values():
            err.print(place, soft_wrap=True, highlight=False)
    if night.changes.alarming:
        raise typer.Exit(1)


def crashed(error: Exception) -> UserError:
    """What nobody foresaw, as an error that ends the command with 2: the night could not be done."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    said = (str(error).splitlines() or [""])[0][:200]
    place = f" at {Path(last.filename).name}:{last.lineno}" if last else ""
    hint = "the night before stays what the next one compares with; if it stops again, report this line as a bug"
    return UserError(f"stopped{place} ({type(error).__name__}: {said})", where="nightly", hint=hint)
