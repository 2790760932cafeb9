"""`lungtune plan` and `lungtune sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from feature_store.counted import counted
from orchestrator.cli.console import err, out, print_json

Space = Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="a search space, see search_spaces/")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the file; repeatable")
]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="how many trials in all (overrides the file)")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")]


def plan(space_file: Space, sets: Sets = None, trials: Trials = None, as_json: AsJson = False) -> None:
    """Dry run: what a sweep would run, with everything checked before anything starts.

    Example: lungtune plan search_spaces/icbhi_cpu.yaml --trials 12
    """
    from dataclasses import asdict

    from rich.table import Table

    from feature_store.settings import Settings
    from orchestrator.diagnosis.machine import servers
    from orchestrator.execution.cluster import connect
    from orchestrator.execution.gpu_sharing import Slot
    from orchestrator.sweep.plan import make_plan

    space, settings = _load(space_file, sets, trials), Settings.load()
    planned = make_plan(space, settings)
    cluster = connect()
    cluster.check(space.resources)
    slot = Slot.of(space.resources)
    slots = cluster.slots(slot)
    seconds = planned.seconds
    hours = None if seconds is None else seconds / slots / 3600
    if as_json:
        print_json({**asdict(planned), "cluster": asdict(cluster), "slots": slots, "hours_at_most": hours})
        return
    table = Table(title=f"{planned.study}: {space.description}")
    for name in ("family", "model", "objectives", "features", "searched", "s/fold run"):
        table.add_column(name, overflow="fold")
    for family in planned.families:
        recorded = "not recorded" if family.seconds_per_fold is None else f"{family.seconds_per_fold:.1f}"
        lists = ["\n".join(items) for items in (family.objectives, family.features, family.parameters)]
        table.add_row(family.name, family.model, *lists, recorded)
    out.print(table)
    evaluation, promotion = space.evaluation, space.promotion
    out.print(
        f"search:    {counted(planned.trials, 'trial')} x {counted(len(planned.folds), 'fold')} of {evaluation.split} "
        f"x {counted(len(evaluation.seeds), 'seed')} = at most {counted(planned.search_runs, 'fold run')}, "
        f"pruner {space.search.pruner.name}"
    )
    promoted = counted(planned.promotion_runs, "run")
    out.print(f"promotion: {promoted} on {promotion.split}, each reads its test side once")
    out.print(
        f"cluster:   {counted(cluster.nodes, 'node')}, {counted(cluster.cpus, 'CPU')}, {counted(cluster.gpus, 'GPU')}: "
        f"{counted(slots, 'fold run')} at once"
    )
    recorded = counted(planned.results_recorded, "result")
    out.print(f"recorded:  {recorded} in the store; finished fold runs are not trained again")
    if hours is None:
        out.print("time:      unknown, a family has no recorded fold run yet")
    else:
        out.print(f"time:      at most {hours:.2f} h by recorded fold runs")
        gpu_hours = hours * slots * slot.gpus
        if gpu_hours:
            out.print(f"GPU hours: at most {gpu_hours:.1f}")
        if space.budget.cost_per_hour:
            out.print(f"cost:      at most {hours * slots * space.budget.cost_per_hour:.2f}")
    for warning in planned.warnings:
        err.print(f"[yellow]warning:[/yellow] {warning}", soft_wrap=True)
    silent = [check for check in servers(settings) if check.state == "fail"]
    for check in silent:
        err.print(f"[red]{check.name}:[/red] {check.found}", soft_wrap=True, highlight=False)
        err.print(f"  [cyan]{check.mend}[/cyan]", soft_wrap=True, highlight=False)
    if silent:
        raise typer.Exit(2)


def sweep(space_file: Space, sets: Sets = None, trials: Trials = None, as_json: AsJson = False) -> None:
    """Search, train the best on the whole training side, and register it. The same command again resumes.

    Exits with 1 if a finalist failed, or MLflow did not take the best, so that it is not registered.

    Example: lungtune sweep search_spaces/icbhi_cpu.yaml --trials 12 --set base.training.epochs=6
    """
    from feature_store.settings import Settings
    from orchestrator.cli.live import reporter
    from orchestrator.cli.progress import outcome_json, show_outcome
    from orchestrator.sweep.run import run_sweep
    from orchestrator.tracking.webhook import Webhook

    space, watch = _load(space_file, sets, trials), reporter()
    webhook = Webhook.around(watch)
    try:
        outcome = run_sweep(space, Settings.load(), webhook or watch)
        if webhook:
            best = ", ".join(f"{finalist.family} {finalist.search_value:.2f}" for finalist in outcome.finalists)
            webhook.post("finished", f"sweep {outcome.study} finished: {best}", study=outcome.study)
    except BaseException as error:
        if webhook:
            webhook.post("stopped", f"sweep {space.study_name} stopped: {type(error).__name__}", study=space.study_name)
        raise
    finally:
        watch.close()
        if webhook:
            webhook.close()
    if as_json:
        print_json(outcome_json(outcome))
    else:
        show_outcome(outcome)
    unregistered = any(finalist.registered is None for finalist in outcome.finalists[:1])
    if unregistered or any(finalist.errors for finalist in outcome.finalists):
        raise typer.Exit(1)


def _load(space_file: Path, sets: list[str] | None, trials: int | None):
    from search_spaces.override_warnings import unreached
    from search_spaces.schema import SearchSpace

    overrides = list(sets or [])
    if trials is not None:
        overrides.append(f"search.trials={trials}")
    space = SearchSpace.load(space_file, overrides)
    for told in unreached(space, overrides):
        err.print(f"[yellow]warning:[/yellow] {told}", soft_wrap=True, highlight=False)
    return space
