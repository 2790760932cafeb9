"""`lungtune demo`: the whole main job, small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import err, out


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="a real ICBHI database instead of a synthetic corpus")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the search space")
    ] = None,
) -> None:
    """Corpus, feature store, sweep, registry and leaderboard, on this machine, in minutes.

    Example: lungtune demo
    """
    from feature_store.settings import Settings
    from orchestrator.cli.progress import Reporter, show_outcome
    from orchestrator.demo import run_demo

    home = Settings.load().home / ("demo" if data is None else "demo-real")
    settings = Settings.load(home)
    outcome = run_demo(settings, data, lambda text: err.rule(text, align="left"), Reporter(), tuple(sets or ()))
    show_outcome(outcome.sweep)
    if data is None:
        out.print(
            "[bold]The corpus is synthetic:[/bold] its Scores say that the system works, and nothing of any lung."
        )
    out.print(
        f"runs:        {home}  (mlflow ui --backend-store-uri {settings.mlflow})", soft_wrap=True, highlight=False
    )
    out.print(f"leaderboard: {outcome.page.as_uri()}", soft_wrap=True, highlight=False)
