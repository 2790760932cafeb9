"""`lungtune features`: build, list, show, verify and measure what is in the feature store; clean its cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from feature_store.counted import counted
from orchestrator.cli.console import err, out, print_json

if TYPE_CHECKING:
    from feature_store.features import Spec

app = typer.Typer(help="The feature store: spectrograms computed once, read by every worker.", no_args_is_help=True)

Store = Annotated[str | None, typer.Option("--store", metavar="URI", help="a folder or s3://bucket/prefix")]
Dataset = Annotated[str, typer.Option("--dataset", help="the corpus")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")]


@app.command("build")
def build_features(
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="where the corpus lies")],
    dataset: Dataset = "icbhi",
    features: Annotated[
        list[str] | None,
        typer.Option("--feature", metavar="NAME|SPEC.yaml", help="a named feature or a file with its spec; repeatable"),
    ] = None,
    store: Store = None,
    strict: Annotated[bool, typer.Option("--strict", help="stop at the first recording that cannot be used")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Ray tasks at once; 0 computes in this process")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute what is missing. The same command again computes nothing; a changed recording is computed again.

    Example: lungtune features build --dataset icbhi --root data/icbhi --feature fbank --feature mel
    """
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from feature_store.build import build
    from feature_store.datasets import open_corpus
    from feature_store.features import resolve_feature
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore
    from orchestrator.execution.cluster import connect

    specs = [resolve_feature(_spec_of(name)) for name in features or ["fbank"]]
    corpus = open_corpus(dataset, root)
    target = FeatureStore.open(store or Settings.load().store, create=True)
    if workers != 0:
        connect()
    reports = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        for spec in specs:
            line = bar.add_task(spec.feature_id, total=None)

            def advance(done: int, total: int, line: Any = line) -> None:
                bar.update(line, completed=done, total=total or 1)

            report = build(corpus, spec, target, strict=strict, workers=workers, progress=advance)
            bar.update(line, completed=report.computed, total=report.computed)
            reports.append(report)
    for problem in corpus.problems:
        if problem.severity == "warning":
            err.print(f"[yellow]warning:[/yellow] {escape(str(problem))}", soft_wrap=True, highlight=False)
    for problem in dict.fromkeys(problem for report in reports for problem in report.failed):
        err.print(f"[red]left out:[/red] {escape(str(problem))}", soft_wrap=True, highlight=False)
    if as_json:
        print_json({"store": target.uri, "features": [asdict(report) for report in reports]})
        return
    table = Table(title=f"features of {dataset} in {target.uri}")
    for name in ("feature", "computed", "unchanged", "removed", "left out", "cycles", "seconds", "cycles/s"):
        table.add_column(name, justify="left" if name == "feature" else "right")
    for report in reports:
        speed = f"{report.cycles_computed / report.seconds:.0f}" if report.cycles_computed else "-"
        counts = (report.computed, report.reused, report.removed, len(report.failed), report.cycles)
        table.add_row(report.feature_id, *map(str, counts), f"{report.seconds:.1f}", speed)
    out.print(table)


@app.command("list")
def list_features(store: Store = None, as_json: AsJson = False) -> None:
    """Every built feature of every dataset; without a store, the features that can be built.

    A feature whose manifest is damaged is named, and the exit code is 2.

    Example: lungtune features list
    """
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore

    place = store or Settings.load().store
    if not FeatureStore.is_there(place):
        _list_named(place, as_json)
        return
    target = FeatureStore.open(place)
    rows: list[dict[str, Any]] = []
    damaged = []
    for dataset in target.datasets():
        for feature_id in target.feature_ids(dataset):
            try:
                manifest = target.read_manifest(dataset, feature_id)
            except UserError as error:
                damaged.append(error)
                continue
            rows.append(
                {
                    "dataset": dataset,
                    "feature": manifest.feature_id,
                    "shape": "x".join(map(str, manifest.shape)),
                    "dtype": manifest.dtype,
                    "recordings": len(manifest.recordings),
                    "cycles": manifest.rows,
                    "megabytes": round(sum(part.bytes for part in manifest.parts) / 1e6, 1),
                    "created": manifest.created,
                }
            )
    _print_built(target.uri, rows, as_json)
    for problem in damaged:
        err.print(f"[red]damaged:[/red] {escape(str(problem))}", soft_wrap=True, highlight=False)
    if damaged:
        raise typer.Exit(2)


def _print_built(uri: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table, or one JSON document."""
    from rich.table import Table

    if as_json:
        print_json(rows)
        return
    table = Table(title=f"features in {uri}")
    for name in ("dataset", "feature", "shape", "dtype", "recordings", "cycles", "megabytes", "created"):
        table.add_column(name, justify="right" if name in {"recordings", "cycles", "megabytes"} else "left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    out.print(table)


def _list_named(place: str, as_json: bool) -> None:
    """The shipped features, where nothing has been built yet."""
    from rich.table import Table

    from feature_store.features import NAMED

    named = [
        {"name": name, "feature": spec.feature_id, "shape": "x".join(map(str, spec.stored_shape)), "dtype": spec.dtype}
        for name, spec in NAMED.items()
    ]
    if as_json:
        print_json({"store": None, "can_be_built": named})
    else:
        table = Table(title="features that can be built")
        for column in ("name", "feature", "shape", "dtype"):
            table.add_column(column)
        for row in named:
            table.add_row(*row.values())
        out.print(table)
    note = f"There is no feature store at {place} yet: lungtune features build --root DIR --feature NAME makes one"
    err.print(note, soft_wrap=True, highlight=False, markup=False)


@app.command("show")
def show_feature(
    feature: Annotated[str, typer.Argument(help="a feature's id, or the name of a shipped one")],
    dataset: Dataset = "icbhi",
    store: Store = None,
) -> None:
    """A feature's spec, splits and parts, as JSON.

    Example: lungtune features show fbank --dataset icbhi
    """
    target = _open(store)
    manifest = target.manifest(dataset, feature)
    content = manifest.model_dump(exclude={"recordings"})
    content |= {"content_hash": manifest.content_hash, "recordings": len(manifest.recordings)}
    print_json({**content, "dataset": target.dataset(dataset), "splits": target.splits(dataset)})


@app.command("verify")
def verify_features(
    feature: Annotated[str | None, typer.Argument(help="a feature; all if not given")] = None,
    dataset: Dataset = "icbhi",
    store: Store = None,
) -> None:
    """Read all of a dataset again (description, cycles, splits, parts) and compare it with what was written.

    Exit code 2 if something is wrong.

    Example: lungtune features verify --dataset icbhi
    """
    from feature_store.features import NAMED
    from feature_store.verify import verify_dataset, verify_feature

    target = _open(store)
    found = {f"{dataset}'s cycles and splits": verify_dataset(target, dataset)}
    wanted = [NAMED[feature].feature_id if feature in NAMED else feature] if feature else target.feature_ids(dataset)
    for feature_id in wanted:
        found[feature_id] = verify_feature(target, dataset, feature_id)
    for name, problems in found.items():
        state = "[red]damaged[/red]" if problems else "[green]sound[/green]"
        out.print(f"{escape(name)}: {state}", soft_wrap=True, highlight=False)
        for problem in problems:
            err.print(f"  {escape(problem)}", soft_wrap=True, highlight=False)
    if any(found.values()):
        raise typer.Exit(2)


@app.command("stats")
def feature_stats(
    feature: Annotated[
        str, typer.Option("--feature", metavar="NAME|ID|SPEC.yaml", help="a built feature, or a file with its spec")
    ] = "fbank",
    dataset: Dataset = "icbhi",
    split: Annotated[
        str, typer.Option("--split", help="the split of which the training side is measured")
    ] = "official",
    fold: Annotated[int, typer.Option("--fold", help="its fold")] = 0,
    task: Annotated[str | None, typer.Option("--task", help="that inner folds are balanced for; the first")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Mean and standard deviation of a built feature over the training side of a split: the test side is not read.

    Example: lungtune features stats --dataset icbhi --feature fbank --split official
    """
    from dataclasses import asdict

    from feature_store.feature_statistics import training_statistics
    from feature_store.settings import Settings

    cache = Settings.load().cache
    found = training_statistics(_open(store), dataset, _spec_of(feature), split, fold, cache=cache, task=task)
    if as_json:
        print_json({"dataset": dataset, **asdict(found)})
        return
    out.print(
        f"{found.feature_id} of {dataset}, training side of {split}, fold {fold}: {counted(found.cycles, 'cycle')}, "
        f"{counted(found.values, 'value')}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"stored values: mean {found.mean:.7f}, std {found.std:.7f}", highlight=False)
    if found.raw_mean is not None:
        out.print("for the spec, so that (x - mean) / (2 std) has mean 0 and std 0.5:", highlight=False)
        out.print(f"  mean: {found.raw_mean:.7f}\n  std: {found.raw_std:.7f}", highlight=False)


@app.command("clean")
def clean_cache(
    unused: Annotated[
        float, typer.Option("--unused", metavar="DAYS", min=0, help="keep what was mapped within so many days")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Remove from this node's cache what no training has read for a while; nothing that a process has mapped now.

    The store stays as it is: a training that wants a removed feature lays it out again. A rebuild of a changed corpus
    leaves the array of the state before behind.

    Example: lungtune features clean --unused 7
    """
    import time
    from dataclasses import asdict
    from datetime import datetime, timezone

    from rich.table import Table

    from feature_store.feature_cache import clean
    from feature_store.settings import Settings

    folder = Settings.load().cache / "features"
    found = clean(folder, time.time() - unused * 86_400)
    if as_json:
        print_json({"cache": str(folder), "features": [asdict(cached) for cached in found]})
        return
    table = Table(title=f"features laid out on this node, in {folder}")
    for name in ("feature and content", "MB", "last mapped", "what became of it"):
        table.add_column(name, justify="right" if name == "MB" else "left")
    for cached in found:
        used = datetime.fromtimestamp(cached.used, timezone.utc).strftime("%Y-%m-%d %H:%M")
        words = {"removed": "removed", "in use": "kept: in use", "recent": f"kept: within {counted(unused, 'day')}"}
        table.add_row(cached.name, f"{cached.bytes / 1e6:.1f}", used, words[cached.state])
    out.print(table)
    freed = sum(cached.bytes for cached in found if cached.state == "removed")
    out.print(f"{freed / 1e6:.1f} MB freed", highlight=False)


def _open(store: str | None):
    from feature_store.settings import Settings
    from feature_store.store import FeatureStore

    return FeatureStore.open(store or Settings.load().store)


def _spec_of(name: str) -> Spec | str:
    """A spec from a YAML file, or the name of a shipped or built one as it is.

    Raises:
        UserError: there is no such file, or it is no spec.
    """
    from feature_store.errors import UserError
    from feature_store.features import NAMED, resolve_feature
    from feature_store.yaml_files import read_yaml

    if not name.endswith((".yaml", ".yml")):
        return name
    if not Path(name).is_file():
        raise UserError("there is no such file", where=name, hint=f"a spec's file, or a name: {', '.join(NAMED)}")
    content = read_yaml(name)
    try:
        return resolve_feature(content)
    except UserError as error:
        raise UserError(error.what, where=name, hint=error.hint) from error
