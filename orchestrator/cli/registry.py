"""`lungtune registry`: models, their Score, why each was promoted."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console import out, print_json

app = typer.Typer(
    help="Registered models: their Score, where it comes from, which one is the champion.", no_args_is_help=True
)


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False) -> None:
    """All registered versions.

    Example: lungtune registry list
    """
    from rich.table import Table

    from feature_store.settings import Settings
    from orchestrator.registry import Registry

    versions = Registry.open(Settings.load()).versions()
    if as_json:
        print_json([vars(version) for version in versions])
        return
    if not versions:
        out.print("nothing is registered yet: run `lungtune sweep search_spaces/icbhi_cpu.yaml`")
        return
    table = Table(title="registered models: Score on the test side, mean over seeds")
    numbers = {"Score", "Sp", "Se"}
    for name in ("model", "alias", "family", "Score", "Sp", "Se", "split, protocol, seeds", "recordings"):
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for version in versions:
        tags = version.tags
        spread = f" ± {tags['score_sd']}" if "score_sd" in tags else ""
        table.add_row(
            f"{version.name}/{version.version}",
            " ".join(version.aliases),
            tags.get("model", ""),
            f"{tags.get('score', '')}{spread}",
            tags.get("specificity", ""),
            tags.get("sensitivity", ""),
            f"{tags.get('split', '')}, {tags.get('protocol', '')}, {tags.get('seeds', '')}",
            "synthetic" if tags.get("synthetic") == "true" else tags.get("recordings", ""),
        )
    out.print(table)


@app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="model, model@alias or model/version")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """One version with everything that is recorded of it.

    Example: lungtune registry show icbhi-lungsound4@champion
    """
    from rich.table import Table

    from feature_store.settings import Settings
    from orchestrator.registry import Registry

    version = Registry.open(Settings.load()).find(model)
    if as_json:
        print_json(vars(version))
        return
    table = Table(title=f"{version.name} version {version.version} {' '.join(version.aliases)}", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in sorted(version.tags.items()):
        table.add_row(key, value)
    out.print(table)
