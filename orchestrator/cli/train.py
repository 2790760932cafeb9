"""`lungtune train`: the fold runs of one config, here and now, without Ray."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.console import err, out, print_json


def train(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="an experiment config")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the file; repeatable")
    ] = None,
    split: Annotated[str, typer.Option(help="the split to train and test on")] = "official",
    folds: Annotated[list[int] | None, typer.Option("--fold", help="only this fold; repeatable")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="a seed; repeatable")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Train one config. Finished fold runs are read from the result store, unfinished ones go on where they were.

    Example: lungtune train config.yaml --split official --seed 0 --seed 1 --set training.epochs=8
    """
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from orchestrator.folds import as_row
    from orchestrator.sweep import site_of
    from search_spaces.schema import override, read_yaml
    from workers.config import ExperimentConfig
    from workers.fold import FoldRun, run_fold
    from workers.weights import pin_weights

    settings = Settings.load()
    content = override(read_yaml(config_file), sets or [])
    config = pin_weights(ExperimentConfig.parse(content, where=str(config_file)), settings.weights)
    store = FeatureStore.open(settings.store)
    known = store.split(config.dataset, split, task=config.task).folds()
    rows: list[dict[str, Any]] = []
    for seed in seeds or [0]:
        for fold in folds or known:
            run = FoldRun(config, split, fold, seed)
            result = run_fold(run, site_of(settings), on_epoch=functools.partial(_line, fold, seed))
            rows.append({"split": split, "fold": fold, "seed": seed, "hash": result.hash, **as_row(result)})
    if as_json:
        print_json({"config_hash": config.config_hash, "runs": rows})
        return
    _show(rows)


def _line(fold: int, seed: int, record: dict[str, Any]) -> None:
    held_out = record["validation"]
    err.print(
        f"fold {fold} seed {seed} epoch {record['epoch']}: loss {record['train_loss']:.4f}, "
        f"held-out Score {held_out['score']:.2f}, {record['seconds']:.1f} s",
        highlight=False,
    )


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="fold runs")
    for name in ("split", "fold", "seed", "protocol", "epoch", "Score", "Sp", "Se", "result"):
        table.add_column(name, justify="right" if name in {"fold", "seed", "epoch", "Score", "Sp", "Se"} else "left")
    for row in rows:
        for protocol in ("last", "validation", "test_best"):
            if chosen := row.get(protocol):
                numbers = [f"{chosen[key]:.2f}" for key in ("score", "specificity", "sensitivity")]
                place = [row["split"], str(row["fold"]), str(row["seed"])]
                table.add_row(*place, protocol, str(chosen["epoch"]), *numbers, row["hash"][:12])
    out.print(table)
