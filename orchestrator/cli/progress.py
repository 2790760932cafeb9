"""A sweep's events as lines on stderr, and its outcome as tables on stdout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from feature_store.metrics import LABELS, USUAL
from orchestrator.cli.console import err, out

if TYPE_CHECKING:
    from orchestrator.events import Progress
    from orchestrator.sweep import Finalist, SweepOutcome
    from workers.results import FoldResult


class Reporter:
    """Prints one line an event, with the time since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        text = self._text(progress)
        elapsed = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.started))
        err.print(f"[dim]{elapsed}[/dim] {text}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to do."""

    @staticmethod
    def _text(progress: Progress) -> str:
        facts = progress.facts
        if progress.kind == "search":
            again = f", {facts['taken_up']} unfinished taken up again" if facts["taken_up"] else ""
            missing, slots = facts["missing"], facts["slots"]
            return f"search [bold]{facts['study']}[/bold]: {missing} trials to run{again}, {slots} at once"
        if progress.kind == "fold":
            how = "from the result store" if facts["cached"] else f"{facts['seconds']:.1f} s"
            return (
                f"trial {facts['trial']} {facts['family']}: fold {facts['fold']} {LABELS[facts['metric']]} "
                f"{facts['fold_value']:.2f}, "
                f"mean of {facts['fold_runs']}/{facts['fold_runs_in_all']} {facts['value']:.2f} [dim]({how})[/dim]"
            )
        if progress.kind == "trial":
            value = "" if facts["value"] is None else f" at {facts['value']:.2f}"
            return f"trial {facts['trial']} {facts['family']}: [bold]{facts['state'].lower()}[/bold]{value}"
        if progress.kind == "trial_failed":
            which = f"trial {facts['trial']} {facts['family']}"
            alone = f"lungtune train --trial {facts['study']}/{facts['trial']}"
            return f"[red]{which} failed:[/red] {facts['error']}\n  config: {facts['config']}\n  alone: {alone}"
        if progress.kind == "promote":
            runs = f"{facts['runs']} runs, {facts['cached']} done before"
            return f"training the best {facts['family']} on the whole training side: {runs}"
        if progress.kind == "promoted":
            return (
                f"{facts['family']} seed {facts['seed']}: test side {LABELS[facts['metric']]} {facts['score']:.2f} "
                f"(Sp {facts['specificity']:.2f}, Se {facts['sensitivity']:.2f})"
            )
        if progress.kind == "mlflow_lost":
            return f"[yellow]MLflow cannot be reached, going on without it:[/yellow] {facts['error']}"
        if progress.kind == "mlflow_refused":
            return f"[yellow]not written to MLflow:[/yellow] {escape(facts['error'])}"
        if progress.kind == "budget":
            return f"[yellow]nothing more is begun:[/yellow] {facts['limit']}"
        if progress.kind == "not_registered":
            again = "start the same command again when it answers: nothing is trained anew"
            if facts.get("refused"):
                again = f"{escape(facts['refused'])}; after that the same command trains nothing anew"
            so = ", so it is not registered" if facts["registers"] else ""
            return f"[yellow]MLflow has not taken {facts['family']}{so}:[/yellow] {again}"
        if progress.kind == "lease":
            who, seconds = facts["holder"], facts["seconds"]
            return f"[yellow]{who} began this sweep:[/yellow] watching for up to {seconds:.0f} s whether it lives"
        if progress.kind == "webhook_lost":
            return f"[yellow]the webhook does not take news:[/yellow] {facts['error']}"
        if progress.kind == "registered":
            aliases = f" as {', '.join(facts['aliases'])}" if facts["aliases"] else ""
            kept = facts["tags"].get("not_promoted_because")
            why = f", which does not become champion: {kept}" if kept else ""
            return f"registered [bold]{facts['name']}[/bold] version {facts['version']}{aliases}{why}"
        return f"{progress.kind}: {facts}"


def show_outcome(outcome: SweepOutcome) -> None:
    """The trials by their mean, then the finalists."""
    label = LABELS[outcome.metric]
    table = Table(title=f"{outcome.study}: trials by mean {label} over folds (search; the test side unseen)")
    for name, justify in (("trial", "right"), ("family", "left"), ("objective", "left"), (label, "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    costly = any(trial["cost"] is not None for trial in outcome.trials)
    if costly:
        table.add_column("cost", justify="right")
    table.add_column("folds", justify="right")
    table.add_column("state")
    table.add_column("parameters", overflow="fold")
    for trial in sorted(outcome.trials, key=lambda t: (t["value"] is None, -(t["value"] or 0))):
        value = "-" if trial["value"] is None else f"{trial['value']:.2f}"
        parameters = ", ".join(
            f"{key.split(':')[-1]}={_short(item)}" for key, item in trial["params"].items() if key != "family"
        )
        table.add_row(
            str(trial["trial"]),
            trial["family"],
            trial["objective"],
            value,
            *([] if not costly else ["-" if trial["cost"] is None else f"{trial['cost']:.4g}"]),
            str(trial["fold_runs"]),
            "pareto" if trial["pareto"] else trial["state"].lower(),
            parameters,
        )
    out.print(table)
    if outcome.finalists:
        out.print(finalists_table(outcome.finalists))
    promoted = sum(finalist.trained for finalist in outcome.finalists)
    in_all = sum(len(finalist.results) for finalist in outcome.finalists)
    out.print(
        f"search: {outcome.fold_runs_trained} fold runs trained, {outcome.fold_runs_cached} from the result store; "
        f"promotion: {promoted} runs trained, {in_all - promoted} from the result store; {outcome.seconds:.0f} s"
    )


def finalists_table(finalists: list[Finalist]) -> Table:
    """What each finalist reaches on the test side, mean and deviation over its seeds, under each protocol."""
    import statistics

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
            scores = [test["score"] for test in tests]
            spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
            registered = finalist.registered
            leads = registered is not None and protocol == finalist.config.training.protocol
            name = (
                f"{registered.name}/{registered.version} {' '.join(registered.aliases)}" if leads and registered else ""
            )
            table.add_row(
                finalist.family,
                protocol,
                f"{statistics.fmean(scores):.2f}{spread}",
                f"{statistics.fmean(test['specificity'] for test in tests):.2f}",
                f"{statistics.fmean(test['sensitivity'] for test in tests):.2f}",
                str(len(scores)),
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
        "trials": outcome.trials,
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
