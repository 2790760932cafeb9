"""`lungtune evaluate`: Scores without training, from stored predictions, from stored weights, or from a checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.console import err, out, print_json


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
    import numpy as np

    from feature_store.settings import Settings
    from workers.evaluation import evaluate as score
    from workers.results import ResultStore

    store = ResultStore.open(Settings.load().results)
    result = store.find(prefix)
    table = store.predictions(result.hash)
    protocols, devices = (np.asarray(table[name].to_pylist()) for name in ("protocol", "device"))
    labels, logits = table["label"].to_numpy(), np.asarray(table["logits"].to_pylist())
    rows = []
    for name in result.protocols:
        chosen = protocols == name
        by_device = {
            d: score(logits[chosen & (devices == d)], labels[chosen & (devices == d)]) for d in set(devices[chosen])
        }
        place = {"split": result.key.split, "fold": result.key.fold, "seed": result.key.seed}
        rows.append(_row(result.hash[:12], name, place, score(logits[chosen], labels[chosen]), by_device))
        if from_weights and name == result.config["training"]["protocol"]:
            ids = np.asarray(table["cycle_id"].to_pylist())[chosen]
            rows[-1] |= _again(store, result, dict(zip(ids.tolist(), logits[chosen], strict=True)))
    return rows


def _again(store: Any, result: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """How far the stored weights, run once more, are from the stored predictions."""
    import numpy as np

    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from workers.config import ExperimentConfig
    from workers.fold import pick_device
    from workers.rescoring import rescore
    from workers.results import WEIGHTS

    settings = Settings.load()
    config = ExperimentConfig.parse(result.config, where=f"result {result.hash[:12]}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS
        weights.write_bytes(store.read(result.hash, WEIGHTS))
        place: dict[str, Any] = {"split": result.key.split, "fold": result.key.fold, "seed": result.key.seed}
        features = FeatureStore.open(settings.store)
        said = rescore(config, weights, features, settings.cache, device=pick_device("auto"), **place)
    before = np.stack([stored[cycle_id] for cycle_id in said.cycle_ids])
    furthest = float(np.abs(said.logits - before).max())
    agree = float((said.logits.argmax(1) == before.argmax(1)).mean())
    return {"largest_difference": furthest, "agreeing_cycles": agree, "same": agree == 1.0}


def _checkpoint(name: str, sets: list[str], weights: Path, split: str, fold: int) -> dict[str, Any]:
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from search_spaces.presets import config_mapping
    from search_spaces.schema import override
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
    return _row(weights.name, "-", place, said.metrics, said.by_device()) | {"weights": said.report.summary()}


def _row(name: str, protocol: str, place: dict[str, Any], metrics: Any, by_device: dict[str, Any]) -> dict[str, Any]:
    return {
        "result": name,
        **place,
        "protocol": protocol,
        "metrics": metrics.model_dump(),
        "devices": {device: one.model_dump() for device, one in sorted(by_device.items())},
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="test side")
    names = (
        "result",
        "split",
        "fold",
        "protocol",
        "cycles of",
        "n",
        "Score",
        "Sp",
        "Se",
        "Score (2 classes)",
        "weights",
    )
    for name in names:
        table.add_column(name, justify="left" if name in {"result", "split", "protocol", "cycles of"} else "right")
    for row in rows:
        place = [row["result"], row["split"], str(row["fold"]), row["protocol"]]
        difference = row.get("largest_difference")
        again = "" if difference is None else f"{'same' if row['same'] else 'DIFFER'}, logits +-{difference:.1g}"
        table.add_row(*place, "all", *_numbers(row["metrics"]), again)
        for device, metrics in row["devices"].items():
            table.add_row("", "", "", "", device, *_numbers(metrics), "")
    out.print(table)


def _numbers(metrics: dict[str, Any]) -> list[str]:
    exact, any_ = metrics["icbhi4"], metrics["icbhi2"]
    scores = (exact["score"], exact["specificity"], exact["sensitivity"], any_["score"])
    return [str(metrics["n"]), *(f"{score:.2f}" for score in scores)]
