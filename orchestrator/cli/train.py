"""`lungtune train`: the fold runs of one config, here and now, without Ray."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_store.metrics import LABELS
from orchestrator.cli.console import err, out, print_json

if TYPE_CHECKING:
    from feature_store.metrics import Metric
    from feature_store.settings import Settings
    from workers.config import ExperimentConfig
    from workers.fold import FoldRun
    from workers.results import FoldResult


def train(
    config_name: Annotated[
        str | None, typer.Argument(metavar="[NAME|CONFIG.yaml]", help="a preset or an experiment config")
    ] = None,
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="STUDY/NUMBER", help="a sweep's trial instead, on its own folds")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the file; repeatable")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="the split to train and test on  [default: official, or the trial's]")
    ] = None,
    folds: Annotated[list[int] | None, typer.Option("--fold", help="only this fold; repeatable")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, max=2**32 - 1, help="a seed; repeatable")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Train one config. Finished fold runs are read from the result store, unfinished ones go on where they were.

    Example: lungtune train config.yaml --split official --seed 0 --seed 1 --set training.epochs=8

    Example: lungtune train icbhi_patchmix_cl --set training.batch_size=16

    Example: lungtune train --trial icbhi-cpu/3
    """
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from orchestrator.cli.progress import as_row
    from workers.data import task_classes
    from workers.fold import FoldRun, Site, run_fold
    from workers.weights import pin_weights

    settings = Settings.load()
    config, split = _config(config_name, trial, sets or [], split, settings)
    config = pin_weights(config, settings.weights)
    store = FeatureStore.open(settings.store)
    task_classes(store, config)
    known = store.split(config.dataset, split, task=config.task).folds()
    chooses = config.training.metric or store.metric(config.dataset, config.task)
    rows: list[dict[str, Any]] = []
    for seed in dict.fromkeys(seeds or [0]):
        for fold in dict.fromkeys(folds or known):
            run = FoldRun(config, split, fold, seed)
            result = _run(run, functools.partial(run_fold, run, Site.of(settings)), chooses)
            rows.append({"split": split, "fold": fold, "seed": seed, "hash": result.hash, **as_row(result)})
    _tell(result)
    if as_json:
        print_json({"config_hash": config.config_hash, "metric": result.data.metric, "runs": rows})
        return
    _show(rows, LABELS[result.data.metric])


def _config(
    name: str | None, trial: str | None, sets: list[str], split: str | None, settings: Settings
) -> tuple[ExperimentConfig, str]:
    """The config and the split that the arguments mean.

    Raises:
        UserError: neither or both of a config and a trial, or there is none such.
    """
    from feature_store.errors import UserError
    from orchestrator.studies.storage import find_trial, load_study
    from search_spaces.overrides import override
    from search_spaces.presets import config_mapping
    from workers.config import ExperimentConfig

    if (name is None) == (trial is None):
        raise UserError("give a config, or --trial STUDY/NUMBER", where="lungtune train")
    if trial is None:
        content, where = config_mapping(str(name)), str(name)
    else:
        study, _, number = trial.rpartition("/")
        if not study or not number.isdigit():
            raise UserError(f"'{trial}' is not STUDY/NUMBER", where="--trial", hint="see `lungtune status`")
        content, where = find_trial(study, int(number), settings).user_attrs["config"], f"trial {trial}"
        evaluation = load_study(study, settings).user_attrs.get("evaluation", {})
        split = split or evaluation.get("split")
    return ExperimentConfig.parse(override(content, sets), where=where), split or "official"


def _run(run: FoldRun, train: Callable[..., FoldResult], chooses: Metric) -> FoldResult:
    """A fold run whose progress is shown.

    Raises:
        UserError: bad input, or a loss that is no number any more.
    """
    from feature_store.errors import UserError

    at = f"fold {run.fold} seed {run.seed}"
    shown = ""

    def progress(text: str) -> None:
        nonlocal shown
        if text != shown:
            shown = text
            err.print(f"[dim]{at}: {text}[/dim]", highlight=False)

    try:
        return train(on_epoch=functools.partial(_line, run, chooses), on_progress=progress)
    except RuntimeError as error:
        from workers.training import Diverged

        if isinstance(error, Diverged):
            raise UserError(str(error), where=f"{at} of config {run.config.config_hash[:8]}") from error
        raise


def _line(run: FoldRun, metric: Metric, record: dict[str, Any]) -> None:
    """One epoch, with what may choose it: the metric of the held-out patients."""
    held_out = record["validation"]
    err.print(
        f"fold {run.fold} seed {run.seed} epoch {record['epoch']}: loss {record['train_loss']:.4f}, "
        f"held-out {LABELS[metric]} {held_out.get(metric, held_out['score']):.2f}, {record['seconds']:.1f} s",
        highlight=False,
    )
    for note in record.get("notes", ()):
        err.print(f"[yellow]note:[/yellow] {note}", highlight=False)


def _tell(result: FoldResult) -> None:
    """What a reader of the table has to know beside it."""
    if loaded := result.model.get("pretrained"):
        counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in loaded["counts"].items())
        err.print(f"pretrained entries: {counts}", highlight=False)
    if result.compat:
        err.print(f"[yellow]with a source system's defects switched on:[/yellow] {', '.join(result.compat)}")
    if not all(chosen.guarded for chosen in result.protocols.values()):
        err.print("a protocol found no epoch above training.min_sensitivity: the last one stands in")


def _show(rows: list[dict[str, Any]], label: str) -> None:
    from rich.table import Table

    table = Table(title="fold runs")
    for name in ("split", "fold", "seed", "protocol", "epoch", label, "Sp", "Se", "result"):
        table.add_column(name, justify="right" if name in {"fold", "seed", "epoch", label, "Sp", "Se"} else "left")
    for row in rows:
        for protocol in ("last", "validation", "test_best"):
            if chosen := row.get(protocol):
                numbers = [f"{chosen[key]:.2f}" for key in ("score", "specificity", "sensitivity")]
                place = [row["split"], str(row["fold"]), str(row["seed"])]
                table.add_row(*place, protocol, str(chosen["epoch"]), *numbers, row["hash"][:12])
    out.print(table)
