"""`lungtune ensemble`: several finished fold runs made one, from their stored predictions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from feature_store.counted import counted
from orchestrator.cli.console import err, out, print_json

if TYPE_CHECKING:
    from orchestrator.ensembles import Interval, Standing
    from workers.ensembles import EnsembleResult

SHOWN = 5  # patients that a warning names


def ensemble(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RESULT]...", help="finished fold runs, by the beginning of their hash"),
    ] = None,
    method: Annotated[str, typer.Option(help="mean, score, softmax or greedy")] = "mean",
    protocol: Annotated[str, typer.Option(help="whose epochs' predictions: last or validation")] = "last",
    by: Annotated[
        str, typer.Option(help="what weights members on held-out patients: score (the task's own metric) or accuracy")
    ] = "score",
    rounds: Annotated[int, typer.Option(help="greedy: rounds of selection", min=1, max=1000)] = 50,
    top: Annotated[int | None, typer.Option(help="take the N configs that do best on held-out patients", min=2)] = None,
    split: Annotated[str, typer.Option(help="with --top: the split")] = "official",
    task: Annotated[str, typer.Option(help="with --top: the task")] = "lungsound4",
    dataset: Annotated[str, typer.Option(help="with --top: the dataset")] = "icbhi",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Combine finished fold runs, fold by fold, and store the ensemble beside them. Nothing is trained.

    Weights come from the patients held out of the members' trainings, never from the test side.

    Example: lungtune ensemble 3f9a27 81c0de --method softmax

    Example: lungtune ensemble --top 5 --split five-fold --method greedy --protocol validation
    """
    from feature_store.errors import UserError, nearest
    from feature_store.settings import Settings
    from orchestrator.ensembles import best_results, standing
    from workers.ensembles import METHODS, build_ensemble, check_protocol
    from workers.ensembles import Settings as EnsembleSettings
    from workers.results import ResultStore

    if bool(results) == (top is not None):
        raise UserError("give results, or --top N to have the best ones taken", where="lungtune ensemble")
    known = {name: name for name in METHODS}
    if method not in known:
        raise UserError(f"there is no method '{method}'", where="--method", hint=nearest(method, known))
    if by not in {"score", "accuracy"}:
        raise UserError(f"nothing is weighted by '{by}'", where="--by", hint=nearest(by, ["score", "accuracy"]))
    check_protocol(protocol)
    store = ResultStore.open(Settings.load().results)
    with err.status("reading predictions"):
        if top is not None:
            chosen = best_results(store, dataset=dataset, task=task, split=split, protocol=protocol, top=top)
        else:
            chosen = [store.find(prefix) for prefix in results or []]
        settings = EnsembleSettings.model_validate({"by": by, "rounds": rounds})
        made = build_ensemble(
            store, [run.hash for run in chosen], method=known[method], settings=settings, protocol=protocol
        )
        stands = standing(store, made)
    place = store.storage.uri(f"ensembles/{made.hash}")
    if as_json:
        print_json({"ensemble": made.model_dump(mode="json", by_alias=True), "standing": asdict(stands), "at": place})
        return
    _show(made, stands)
    out.print(f"\n{place}", soft_wrap=True, highlight=False)


def _show(made: EnsembleResult, stands: Standing) -> None:
    from rich.table import Table

    from feature_store.metrics import LABELS

    over = "" if len(made.folds) == 1 else f", mean over {counted(len(made.folds), 'fold')}"
    table = Table(
        title=f"{made.dataset} {made.task} {made.split}, protocol {made.protocol}: {made.method}{over}",
        title_justify="left",
    )
    for heading in ("model", "config"):
        table.add_column(heading)
    label = LABELS[made.metric]
    for heading in ("seed", "weight", f"held-out {label}", label, "95 %", "Sp", "Se"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in stands.trainings:
        rates = (f"{one.specificity:.2f}", f"{one.sensitivity:.2f}")
        numbers = (f"{one.weight:.4f}", f"{one.validation_score:.2f}", f"{one.score:.2f}", _span(one.interval))
        table.add_row(one.model, one.config_hash[:8], str(one.seed), *numbers, *rates)
    held_out = [fold.validation.value(made.metric) for fold in made.folds if fold.validation is not None]
    known = f"{sum(held_out) / len(held_out):.2f}" if len(held_out) == len(made.folds) else ""
    tests = [fold.test.score_for(made.metric) for fold in made.folds]
    own = [f"{sum(getattr(t, name) for t in tests) / len(tests):.2f}" for name in ("specificity", "sensitivity")]
    table.add_section()
    score = f"{made.overall.score:.2f}"
    table.add_row("ensemble", made.hash[:8], "", "1", known, score, _span(stands.interval), *own, style="bold")
    out.print(table)
    if len(made.folds) > 1:
        pooled, weighted = made.overall.pooled.value(made.metric), made.overall.cycle_weighted_score
        out.print(f"{label} of all folds put together {pooled:.2f}; folds weighted by their cycles {weighted:.2f}")
    gain = f"{stands.gain:+.2f} against the mean of its members (95 % {_span(stands.gain_interval, signed=True)})"
    place = "no place, since it lacks folds"
    if stands.place is not None:
        place = f"place {stands.place} of {stands.of} with the single configs on the same data"
    out.print(f"{gain}; {place}")
    for warning in _warnings(made):
        out.print(f"[yellow]{warning}[/]")


def _span(interval: Interval, *, signed: bool = False) -> str:
    if interval is None:
        return "not defined" if signed else ""
    return f"{interval[0]:+.1f} to {interval[1]:+.1f}" if signed else f"{interval[0]:.1f}-{interval[1]:.1f}"


def _warnings(made: EnsembleResult) -> list[str]:
    """What a reader must know before the number."""
    found: list[str] = []
    if made.synthetic:
        found.append("Synthetic sounds: these numbers say nothing about lungs.")
    elif made.recordings < made.recordings_listed:
        found.append(f"Partial database: {made.recordings} of {counted(made.recordings_listed, 'recording')}.")
    if shared := made.patients_on_both_sides:
        names = " and ".join(shared) if len(shared) <= SHOWN else f"{len(shared)}, the first is {shared[0]}"
        found.append(f"Patients on both sides of the split: {names}.")
    if made.compat:
        found.append(f"Copies a source system's defect: {', '.join(made.compat)}.")
    return found
