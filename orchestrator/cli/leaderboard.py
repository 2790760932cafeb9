"""`lungtune leaderboard`: build the ranking from the stored results."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from feature_store.counted import counted
from feature_store.settings import Settings
from orchestrator.cli.console import err, out, print_json
from orchestrator.leaderboard.column_types import EntryRow, words
from orchestrator.leaderboard.columns import shown_columns
from orchestrator.leaderboard.schema import Board, Leaderboard
from orchestrator.leaderboard.schema import Table as Ranking

app = typer.Typer(help="Rank what has been trained, and say how far each number can be trusted.", no_args_is_help=True)

ROWS = 10


@app.callback()
def leaderboard() -> None:
    """Rank what has been trained, and say how far each number can be trusted."""


@app.command()
def build(
    out_folder: Annotated[
        str | None, typer.Option("--out", help="Folder or s3:// URI to write to; in LUNGTUNE_HOME if not given.")
    ] = None,
    results: Annotated[str | None, typer.Option(help="Result store; the configured one if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the site: index.html, a page per entry, a page to compare two, and the same as JSON, CSV and Markdown.

    It needs no network and no server: open index.html, or copy the folder to any web server.

    Example: lungtune leaderboard build --out site
    """
    from orchestrator.leaderboard.site.build import write_site
    from orchestrator.leaderboard.site.write import PAGE

    settings = Settings.load()
    with err.status("reading results") as status:
        board, places = write_site(
            settings,
            out_folder or settings.home / "leaderboard",
            results=results,
            warn=lambda message: err.print(f"[yellow]warning[/] {escape(message)}"),
            progress=status.update,
        )
    for problem in board.problems:
        err.print(f"[yellow]left out[/] result {escape(problem.result[:12])}: {escape(problem.what)}", soft_wrap=True)
    if as_json:
        print_json({"files": places, "results": board.results, "boards": [_summary(b) for b in board.boards]})
        return
    show(board)
    out.print(f"\n{places[PAGE]}", soft_wrap=True, highlight=False)


def show(board: Leaderboard) -> None:
    """Print the leading rows of every honest table."""
    for part in board.boards:
        for ranking in part.tables:
            if ranking.honest and ranking.entries:
                out.print(_table(part, ranking))
        for warning in part.warnings:
            out.print(f"[yellow]{escape(warning)}[/]")
    if not any(ranking.entries for part in board.boards for ranking in part.tables):
        out.print(
            f"No complete entry yet in {counted(board.results, 'fold run')}. `lungtune sweep SPACE.yaml` trains some."
        )


def _table(board: Board, ranking: Ranking) -> Table:
    data = board.data
    title = escape(f"{data.dataset} {data.task} {data.split}, protocol {ranking.protocol}")
    table = Table(title=title, title_justify="left")
    views = [column.terminal for column in shown_columns("terminal", board, ranking) if column.terminal]
    for view in views:
        head = escape(words(view.title, ranking))
        table.add_column(head, justify="right" if view.number else "left", no_wrap=view.number)
    for entry in ranking.entries[:ROWS]:
        table.add_row(*(escape(view.cell(EntryRow(board, ranking, entry))) for view in views))
    if any(entry.tied_with for entry in ranking.entries):
        table.caption = "= tied with the first of its group: no difference shows on the same draws of patients"
    return table


def _summary(board: Board) -> dict[str, object]:
    return {
        **board.data.model_dump(mode="json"),
        "warnings": board.warnings,
        "tables": [
            {
                "protocol": ranking.protocol,
                "honest": ranking.honest,
                "entries": [
                    entry.model_dump(
                        mode="json", include={"id", "rank", "tied_with", "model", "objective", "numbers", "config_hash"}
                    )
                    for entry in ranking.entries
                ],
                "incomplete": len(ranking.incomplete),
            }
            for ranking in board.tables
        ],
    }
