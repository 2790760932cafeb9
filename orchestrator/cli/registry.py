"""`lungtune registry`: models, their numbers, which one is the champion and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orchestrator.cli.console import err, out, print_json
from orchestrator.markdown import text

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.registry.registry import Registry
    from orchestrator.registry.version import Registered

app = typer.Typer(
    help="Registered models: their numbers, where they come from, which one is the champion.", no_args_is_help=True
)
Model = Annotated[str, typer.Argument(help="champion, model, model@alias or model/version")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE.yaml", help="the rules  [default: LUNGTUNE_POLICY, or the shipped ones]"),
]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """All registered versions.

    Example: lungtune registry list
    """
    from feature_store.metrics import LABELS
    from feature_store.settings import Settings
    from orchestrator.registry.registry import Registry

    versions = Registry.open(Settings.load(), asks=True).versions()
    if as_json:
        print_json([_document(version) for version in versions])
        return
    if not versions:
        out.print("nothing is registered yet: run `lungtune sweep search_spaces/icbhi_cpu.yaml`")
        return
    for metric in dict.fromkeys(version.metric for version in versions):
        out.print(_table([version for version in versions if version.metric == metric], LABELS[metric]))


def _table(versions: list[Registered], label: str) -> Table:
    """Versions whose number is of one kind."""
    from rich.table import Table

    table = Table(title=f"registered models: {label} on the test side, mean over seeds")
    numbers = {label, "95 %", "Sp", "Se"}
    for name in ("model", "alias", "family", label, "95 %", "Sp", "Se", "split, protocol, seeds", "recordings"):
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for version in versions:
        tags = version.tags
        spread = f" ± {tags['score_sd']}" if "score_sd" in tags else ""
        table.add_row(
            str(version),
            " ".join(version.aliases),
            tags.get("model", ""),
            f"{tags.get('score', '')}{spread}",
            f"{tags['score_low']} to {tags['score_high']}" if "score_low" in tags else "",
            tags.get("specificity", ""),
            tags.get("sensitivity", ""),
            f"{tags.get('split', '')}, {tags.get('protocol', '')}, {tags.get('seeds', '')}",
            "synthetic" if tags.get("synthetic") == "true" else tags.get("recordings", ""),
        )
    return table


@app.command("show")
def show(model: Model, as_json: AsJson = False) -> None:
    """The model card of a version, why it is or is not the champion, and all champions there have been.

    Example: lungtune registry show icbhi-lungsound4@champion
    """
    from rich.markdown import Markdown

    from feature_store.metrics import LABELS
    from feature_store.settings import Settings
    from orchestrator.registry.card.card_markdown import page
    from orchestrator.registry.registry import Registry

    registry = Registry.open(Settings.load(), asks=True)
    version = registry.find(model)
    history = _history(registry, version.name)
    if as_json:
        print_json({**_document(version), "history": history})
        return
    readable = version.readable_card
    card = page(readable) if readable else _plain(version)
    out.print(Markdown(card) if out.is_terminal else card, soft_wrap=not out.is_terminal, markup=False, highlight=False)
    _show_decision(version)
    if history:
        out.print(f"\n[bold]champions of {version.name}[/bold]")
    for change in history:
        score = f"{LABELS[change['metric']]} {change['score']:.2f}"
        out.print(f"  {change['when']}  version {change['version']}, {score}: {change['reason']}", soft_wrap=True)


@app.command("promote")
def promote(
    model: Model,
    policy: PolicyFile = None,
    force: Annotated[bool, typer.Option("--force", help="whatever the rules say; needs --because")] = False,
    because: Annotated[str | None, typer.Option("--because", metavar="TEXT", help="why it is forced")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a version by the policy, and make it champion if every rule passes. Exits with 1 if one refuses.

    Example: lungtune registry promote icbhi-lungsound4/3

    Example: lungtune registry promote icbhi-lungsound4/3 --force --because "the champion's data were withdrawn"
    """
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from orchestrator.registry.registry import Registry
    from orchestrator.registry.version import CHAMPION

    reason = (because or "").strip()
    if force != bool(reason):
        raise UserError("--force and --because TEXT go together", where="registry promote")
    registry = Registry.open(Settings.load(), policy, asks=True)
    before = registry.find(model)
    was_champion = CHAMPION in before.aliases
    with err.status("judging"):
        version = registry.promote(before, forced=reason or None)
    if as_json:
        print_json(_document(version))
    elif was_champion:
        out.print(f"{version} is the champion already")
    else:
        _show_decision(version)
    if CHAMPION not in version.aliases:
        raise typer.Exit(1)


@app.command("verify")
def verify(model: Model, policy: PolicyFile = None, as_json: AsJson = False) -> None:
    """Run a version's weights again and compare with the stored predictions. Exits with 1 if they differ.

    Example: lungtune registry verify champion
    """
    from feature_store.settings import Settings
    from orchestrator.registry.registry import Registry

    registry = Registry.open(Settings.load(), policy, asks=True)
    version = registry.find(model)
    with err.status("running the registered weights"):
        found = registry.verify(version)
    passed, detail = registry.policy.verified.judge(found)
    if as_json:
        print_json({"name": version.name, "version": version.version, "verified": passed, **vars(found)})
    else:
        out.print(f"{version}: {'[green]verified[/green]' if passed else '[red]not verified[/red]'}, {detail}")
    if not passed:
        raise typer.Exit(1)


def _history(registry: Registry, name: str) -> list[dict[str, Any]]:
    """The champions that a model has had; a history that cannot be read is named, and the rest is shown."""
    from feature_store.errors import UserError

    try:
        return [change.model_dump(mode="json") for change in registry.history(name)]
    except UserError as error:
        err.print(f"[yellow]warning:[/yellow] {escape(str(error))}", soft_wrap=True)
        return []


def _document(version: Registered) -> dict[str, Any]:
    from feature_store.errors import UserError

    try:
        card, problem = version.card, {}
    except UserError as error:
        card, problem = None, {"problem": error.what}
    tags = {key: value for key, value in version.tags.items() if key not in ("card", "promotion")}
    return {
        **vars(version),
        "tags": tags,
        "card": card.model_dump(mode="json") if card else None,
        **problem,
        "decision": version.decision.model_dump(mode="json") if version.decision else None,
    }


def _show_decision(version: Registered) -> None:
    from rich.table import Table

    decision = version.decision
    if decision is None:
        return
    word = "[green]is champion[/green]" if decision.promoted else "[yellow]is not champion[/yellow]"
    if decision.promoted and "champion" not in version.aliases:
        word = "[yellow]was champion[/yellow]"
    out.print(f"\n[bold]{version}[/bold] {word}: ", end="")
    out.print(decision.reason, soft_wrap=True, markup=False, highlight=False)
    table = Table(title=f"policy '{decision.policy}', {decision.when}", title_justify="left")
    for name in ("rule", "", "what it found"):
        table.add_column(name, overflow="fold")
    for rule in decision.rules:
        said = {True: "[green]passes[/green]", False: "[red]refuses[/red]", None: "not asked"}[rule.passed]
        table.add_row(rule.rule, said, rule.detail)
    out.print(table)


def _plain(version: Registered) -> str:
    """What there is of a version that an older lungtune registered, or whose card cannot be read."""
    rows = [f"- {text(key)}: {text(value)}" for key, value in sorted(version.tags.items())]
    why = ["Its model card cannot be read; these are its tags.", ""] if "card" in version.tags else []
    return "\n".join([f"# {text(str(version))}", "", *why, *rows])
