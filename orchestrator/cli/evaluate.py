"""`lungtune evaluate`: metrics without training, from stored predictions, from stored weights, or from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_store.metrics import LABELS, USUAL, Metric
from orchestrator.cli.console import err, out, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from workers.evaluation import Metrics
    from workers.results import FoldResult, ResultStore


def evaluate(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RESULT]...", help="finished fold runs, by the beginning of their hash"),
    ] = None,
    from_weights: Annotated[
        bool, typer.Option("--from-weights", help="run the stored weights again and compare with what was stored")
    ] = False,
    config_name: Annotated[
        str | None, typer.Option("--config", metavar="NAME|CONFIG.yaml", help="of the checkpoint: a preset or a file")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="a checkpoint of lungtune or of Patch-Mix")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the config; repeatable")
    ] = None,
    split: Annotated[str, typer.Option(help="with --weights: the split")] = "official",
    fold: Annotated[int, typer.Option(help="with --weights: the fold")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")] = False,
) -> None:
    """Score finished fold runs or a checkpoint on the test side, by class and by device. Nothing is trained or stored.

    Example: lungtune evaluate 3f9a27 --from-weights

    Example: lungtune evaluate --config icbhi_patchmix_cl --weights best.pth --split official
    """
    from feature_store.errors import UserError

    if bool(results) == bool(weights) or bool(weights) != bool(config_name):
        raise UserError("give results, or a --config with its --weights", where="lungtune evaluate")
    if weights is not None and config_name is not None:
        rows = [_checkpoint(config_name, sets or [], weights, split, fold)]
    else:
        rows = [row for prefix in results or [] for row in _finished(prefix, from_weights)]
    if as_json:
        print_json(rows)
    else:
        _show(rows)
    differing = [row["result"] for row in rows if row.get("same") is False]
    if differing:
        err.print(f"[red]the weights no longer give the stored predictions:[/red] {', '.join(differing)}")
        raise typer.Exit(1)


def _finished(prefix: str, from_weights: bool) -> list[dict[str, Any]]:
    """A row a protocol from what was stored; and whether the weights still give it, for the one that they are of."""
    from feature_store.settings import Settings
    from workers.evaluation import evaluate as score
    from workers.evaluation import evaluate_by
    from workers.predictions import predictions_of
    from workers.results import ResultStore

    store = ResultStore.open(Settings.load().results)
    result = store.find(prefix)
    place = {"split": result.key.split, "fold": result.key.fold, "seed": result.key.seed}
    rows = []
    for name in result.protocols:
        said = predictions_of(store, result.hash, name)
        by_device = evaluate_by(said.devices, said.logits, said.labels)
        of_all = score(said.logits, said.labels)
        rows.append(_row(result.hash[:12], name, place, result.data.metric, of_all, by_device))
        if from_weights and name == result.config["training"]["protocol"]:
            rows[-1] |= _again(store, result, dict(zip(said.cycle_ids.tolist(), said.logits, strict=True)))
    return rows


def _again(store: ResultStore, result: FoldResult, stored: dict[str, Any]) -> dict[str, Any]:
    """How far the stored weights, run once more, are from the stored predictions."""
    import numpy as np

    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from workers.fold import pick_device
    from workers.rescoring import rescore_result
    from workers.results import WEIGHTS

    settings = Settings.load()
    weights, features = store.read(result.hash, WEIGHTS), FeatureStore.open(settings.store)
    said = rescore_result(result, weights, features, settings.cache, pick_device("auto"))
    before = np.stack([stored[cycle_id] for cycle_id in said.cycle_ids])
    furthest = float(np.abs(said.logits - before).max())
    agree = float((said.logits.argmax(1) == before.argmax(1)).mean())
    return {"largest_difference": furthest, "agreeing_cycles": agree, "same": agree == 1.0}


def _checkpoint(name: str, sets: list[str], weights: Path, split: str, fold: int) -> dict[str, Any]:
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from search_spaces.overrides import override
    from search_spaces.presets import config_mapping
    from workers.config import ExperimentConfig
    from workers.fold import pick_device
    from workers.rescoring import rescore

    if not weights.is_file():
        raise UserError("no such file", where=str(weights))
    settings = Settings.load()
    config = ExperimentConfig.parse(override(config_mapping(name), sets), where=name)
    store = FeatureStore.open(settings.store)
    said = rescore(config, weights, store, settings.cache, split=split, fold=fold, device=pick_device("auto"))
    place = {"split": split, "fold": fold, "seed": None}
    row = _row(weights.name, "-", place, said.metric, said.metrics, said.by_device())
    return row | {"weights": said.report.summary()}


def _row(
    name: str, protocol: str, place: dict[str, Any], metric: Metric, metrics: Metrics, by_device: dict[str, Metrics]
) -> dict[str, Any]:
    """The metrics of one set of predictions, of all and of each device: with the task's own as ``score``."""

    def numbers(one: Metrics) -> dict[str, Any]:
        return {**one.model_dump(), **one.summary(metric)}

    return {
        "result": name,
        **place,
        "protocol": protocol,
        "metric": metric,
        "metrics": numbers(metrics),
        "devices": {device: numbers(one) for device, one in by_device.items()},
    }


def _show(rows: list[dict[str, Any]]) -> None:
    """A table for each metric that the rows' tasks have."""
    for metric in dict.fromkeys(row["metric"] for row in rows):
        out.print(_table([row for row in rows if row["metric"] == metric], metric))


def _table(rows: list[dict[str, Any]], metric: Metric) -> Table:
    from rich.table import Table

    table = Table(title="test side")
    words = {"result", "split", "protocol", "cycles of"}
    two_classes = ["Score (2 classes)"] if metric == USUAL else []
    for name in ("result", "split", "fold", "protocol", "cycles of", "n", LABELS[metric], "Sp", "Se", *two_classes):
        table.add_column(name, justify="left" if name in words else "right")
    table.add_column("weights", justify="right")
    for row in rows:
        place = [row["result"], row["split"], str(row["fold"]), row["protocol"]]
        difference = row.get("largest_difference")
        again = "" if difference is None else f"{'same' if row['same'] else 'DIFFER'}, logits +-{difference:.1g}"
        table.add_row(*place, "all", *_numbers(row["metrics"], metric), again)
        for device, metrics in row["devices"].items():
            table.add_row("", "", "", "", device, *_numbers(metrics, metric), "")
    return table


def _numbers(metrics: dict[str, Any], metric: Metric) -> list[str]:
    numbers = [metrics[name] for name in ("score", "specificity", "sensitivity")]
    if metric == USUAL:
        numbers.append(metrics["icbhi2"]["score"])
    return [str(metrics["n"]), *(f"{number:.2f}" for number in numbers)]
