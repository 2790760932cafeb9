"""A sweep's events as lines on stderr, and its outcome as tables on stdout."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from feature_store.counted import counted
from feature_store.metrics import LABELS, USUAL
from orchestrator.analysis.items import Estimate
from orchestrator.cli.console import err, out
from orchestrator.events import (
    BudgetReached,
    DriverWaited,
    Event,
    FinalistFailed,
    FinalistNotRecorded,
    FinalistRunDone,
    FinalistStarted,
    FoldDone,
    MlflowLost,
    MlflowRefused,
    ModelRegistered,
    SearchStarted,
    TrialEnded,
    TrialFailed,
    WebhookLost,
)

if TYPE_CHECKING:
    from orchestrator.sweep.finalists import Finalist
    from orchestrator.sweep.run import SweepOutcome
    from workers.results import FoldResult


class Reporter:
    """Prints one line per event, with the time since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, event: Event) -> None:
        elapsed = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.started))
        err.print(f"[dim]{elapsed}[/dim] {line(event)}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to do."""


def line(event: Event) -> str:
    """An event as one line with Rich's markup. mypy refuses a kind of event that has no case here."""
    match event:
        case SearchStarted():
            again = f", {event.taken_up} unfinished taken up again" if event.taken_up else ""
            missing = counted(event.missing, "trial")
            return f"search [bold]{event.study}[/bold]: {missing} to run{again}, {event.slots} at once"
        case FoldDone():
            how = "from the result store" if event.cached else f"{event.seconds:.1f} s"
            return (
                f"trial {event.trial} {event.family}: fold {event.fold} {LABELS[event.metric]} {event.fold_value:.2f}, "
                f"mean of {event.fold_runs}/{event.fold_runs_in_all} {event.value:.2f} [dim]({how})[/dim]"
            )
        case TrialEnded():
            value = "" if event.value is None else f" at {event.value:.2f}"
            return f"trial {event.trial} {event.family}: [bold]{event.state.lower()}[/bold]{value}"
        case TrialFailed():
            failed = f"[red]trial {event.trial} {event.family} failed:[/red] {event.error}"
            return f"{failed}\n  config: {event.config}\n  alone: lungtune train --trial {event.study}/{event.trial}"
        case BudgetReached():
            return f"[yellow]no more trials are started:[/yellow] {event.limit}"
        case FinalistStarted():
            runs = f"{counted(event.runs, 'run')}, {event.cached} done before"
            return f"training the best {event.family} on the whole training side: {runs}"
        case FinalistRunDone():
            return (
                f"{event.family} seed {event.seed}: test side {LABELS[event.metric]} {event.score:.2f} "
                f"(Sp {event.specificity:.2f}, Se {event.sensitivity:.2f})"
            )
        case FinalistFailed():
            errors = "; ".join(event.errors) or "it has no result"
            return f"[red]the best {event.family} is not recorded in MLflow or registered:[/red] {errors}"
        case FinalistNotRecorded():
            again = "start the same command again when it answers: nothing is trained again"
            if event.refused:
                again = f"{escape(event.refused)}; after that the same command trains nothing again"
            so = ", so it is not registered" if event.registers else ""
            return f"[yellow]MLflow has not taken {event.family}{so}:[/yellow] {again}"
        case ModelRegistered():
            aliases = f" as {', '.join(event.aliases)}" if event.aliases else ""
            why = f", which does not become champion: {event.kept_back}" if event.kept_back else ""
            return f"registered [bold]{event.name}[/bold] version {event.version}{aliases}{why}"
        case DriverWaited():
            watching = f"watching for up to {event.seconds:.0f} s whether it is alive"
            return f"[yellow]{event.holder} started this sweep:[/yellow] {watching}"
        case MlflowLost():
            return f"[yellow]MLflow cannot be reached, going on without it:[/yellow] {event.error}"
        case MlflowRefused():
            return f"[yellow]not written to MLflow:[/yellow] {escape(event.error)}"
        case WebhookLost():
            return f"[yellow]the webhook does not take messages:[/yellow] {event.error}"


def show_outcome(outcome: SweepOutcome) -> None:
    """The trials by their mean, then the finalists."""
    label = LABELS[outcome.metric]
    table = Table(title=f"{outcome.study}: trials by mean {label} over folds (search; the test side unseen)")
    for name, justify in (("trial", "right"), ("family", "left"), ("objective", "left"), (label, "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    costly = any(trial.cost is not None for trial in outcome.trials)
    if costly:
        table.add_column("cost", justify="right")
    table.add_column("folds", justify="right")
    table.add_column("state")
    table.add_column("parameters", overflow="fold")
    for trial in sorted(outcome.trials, key=lambda t: (t.value is None, -(t.value or 0))):
        parameters = ", ".join(
            f"{key.split(':')[-1]}={_short(item)}" for key, item in trial.params.items() if key != "family"
        )
        table.add_row(
            str(trial.trial),
            trial.family,
            trial.objective,
            "-" if trial.value is None else f"{trial.value:.2f}",
            *([] if not costly else ["-" if trial.cost is None else f"{trial.cost:.4g}"]),
            str(trial.fold_runs),
            "pareto" if trial.trial in outcome.pareto else trial.state.lower(),
            parameters,
        )
    out.print(table)
    if outcome.finalists:
        out.print(finalists_table(outcome.finalists))
    promoted = sum(finalist.trained for finalist in outcome.finalists)
    in_all = sum(len(finalist.results) for finalist in outcome.finalists)
    searched = (
        f"{counted(outcome.fold_runs_trained, 'fold run')} trained, {outcome.fold_runs_cached} from the result store"
    )
    trained = f"{counted(promoted, 'run')} trained, {in_all - promoted} from the result store"
    out.print(f"search: {searched}; promotion: {trained}; {outcome.seconds:.0f} s")


def finalists_table(finalists: list[Finalist]) -> Table:
    """What each finalist reaches on the test side, mean and deviation over its seeds, under each protocol."""
    label = LABELS[next((finalist.results[0].data.metric for finalist in finalists if finalist.results), USUAL)]
    table = Table(title="promoted: trained on the whole training side, its test side read once a run")
    for name in ("family", "protocol", label, "Sp", "Se", "seeds", "registered"):
        table.add_column(name, justify="right" if name in {label, "Sp", "Se", "seeds"} else "left")
    for finalist in finalists:
        for error in finalist.errors:
            table.add_row(finalist.family, "[red]failed[/red]", error, "", "", "", "")
        if not finalist.results:
            continue
        for protocol in finalist.results[0].protocols:
            tests = [as_row(result)[protocol] for result in finalist.results]
            score, specificity, sensitivity = (
                Estimate.of([test[name] for test in tests]) for name in ("score", "specificity", "sensitivity")
            )
            registered = finalist.registered
            leads = registered is not None and protocol == finalist.config.training.protocol
            name = (
                f"{registered.name}/{registered.version} {' '.join(registered.aliases)}" if leads and registered else ""
            )
            table.add_row(
                finalist.family,
                protocol,
                f"{score.mean:.2f}" + ("" if score.sd is None else f" ± {score.sd:.2f}"),
                f"{specificity.mean:.2f}",
                f"{sensitivity.mean:.2f}",
                str(len(tests)),
                name,
            )
    return table


def as_row(result: FoldResult) -> dict[str, Any]:
    """The task's own metric (as ``score``), Sp and Se of a result's test side under each protocol, for tables."""
    return {
        protocol: {"epoch": chosen.epoch, **chosen.test.summary(result.data.metric)}
        for protocol, chosen in result.protocols.items()
    }


def outcome_json(outcome: SweepOutcome) -> dict[str, Any]:
    """The outcome as plain data."""
    return {
        "study": outcome.study,
        "metric": outcome.metric,
        "trials": [{**asdict(trial), "pareto": trial.trial in outcome.pareto} for trial in outcome.trials],
        "finalists": [
            {
                "family": finalist.family,
                "trial": finalist.trial,
                "search_value": finalist.search_value,
                "config": finalist.config.model_dump(mode="json"),
                "errors": finalist.errors,
                "results": [
                    {"hash": r.hash, "seed": r.key.seed, "fold": r.key.fold, "metric": r.data.metric, **as_row(r)}
                    for r in finalist.results
                ],
                "registered": None if finalist.registered is None else vars(finalist.registered),
            }
            for finalist in outcome.finalists
        ],
        "fold_runs": {"trained": outcome.fold_runs_trained, "cached": outcome.fold_runs_cached},
        "promotion_runs": {"trained": sum(finalist.trained for finalist in outcome.finalists)},
        "seconds": outcome.seconds,
    }


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
