"""The site of one installation: its results, with the models that its registry holds marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.errors import UserError
from feature_store.settings import Settings, database_file
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.site.spectrograms import Spectrograms
from orchestrator.leaderboard.site.write import PAGE, write
from workers.results import ResultStore

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from orchestrator.registry.decision import ChampionRecord

Say = Callable[[str], None]


def build_site(settings: Settings, out: Path) -> Path:
    """Build the board and write its files.

    Args:
        settings: where results, features and registry are.
        out: folder to write to.

    Returns:
        The page.

    Raises:
        UserError: the folder cannot be written.
    """
    write_site(settings, out)
    return out / PAGE


def write_site(
    settings: Settings,
    out: str | Path,
    *,
    results: str | None = None,
    warn: Say = lambda message: None,
    progress: Say = lambda text: None,
) -> tuple[Leaderboard, dict[str, str]]:
    """Build the board and write its files, to a folder or to S3.

    Args:
        settings: where features, registry and tracking server are.
        out: folder or ``s3://bucket/prefix``.
        results: result store; the configured one if not given.
        warn: is told what the site has to do without.
        progress: is told what is being done.

    Returns:
        The board, and file name -> where it lies.

    Raises:
        UserError: the folder cannot be written.
    """
    store = ResultStore.open(results or settings.results)
    progress("reading results")
    board = build_board(
        store,
        registered_models(settings, warn),
        cache=settings.cache / "leaderboard",
        history=champion_history(settings, warn),
    )
    places = write(
        board,
        out,
        Details(board, store, settings.store),
        spectrograms=Spectrograms(settings),
        runs=tracked_runs(settings, warn),
        progress=progress,
    )
    return board, places


def registered_models(settings: Settings, warn: Say = lambda message: None) -> dict[str, dict[str, Any]]:
    """Registered models by config hash, as `build_board` takes them.

    A registry that cannot be reached costs the rows their badges, not the board: `warn` is told. Where MLflow's own
    database has not been made yet, nothing is registered, and none is made.
    """
    if _nothing_tracked(settings):
        return {}
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.registry.registry import CHAMPION, Registry
    from orchestrator.tracking.client import LOST

    try:
        versions = Registry.open(settings).versions()
    except (*LOST, SQLAlchemyError, UserError) as error:
        warn(f"the registry cannot be read, so no row is marked: {str(error).splitlines()[0]}")
        return {}
    found: dict[str, dict[str, Any]] = {}
    for version in reversed(
        versions
    ):  # oldest first: of one config's versions the newest counts, the champion above all
        config_hash = version.tags.get("config_hash")
        if config_hash is None or found.get(config_hash, {}).get("alias") == CHAMPION:
            continue
        alias = CHAMPION if CHAMPION in version.aliases else next(iter(version.aliases), None)
        found[config_hash] = {"name": version.name, "version": version.version, "alias": alias}
        if "data_hash" in version.tags:
            found[config_hash]["data_hash"] = version.tags["data_hash"]
    return found


def champion_history(settings: Settings, warn: Say = lambda message: None) -> dict[str, Sequence[ChampionRecord]]:
    """Registered model -> its champions, oldest first; a model whose history cannot be read is left out."""
    if _nothing_tracked(settings):
        return {}
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.registry.registry import Registry
    from orchestrator.tracking.client import LOST

    found: dict[str, Sequence[ChampionRecord]] = {}
    try:
        registry = Registry.open(settings)
        for name in sorted({version.name for version in registry.versions()}):
            try:
                found[name] = registry.history(name)
            except UserError as error:  # registered by another hand than lungtune's
                warn(f"the history of model '{name}' cannot be read: {error.__cause__!r}")
    except (*LOST, SQLAlchemyError, UserError) as error:
        warn(f"the history of the champions cannot be read: {str(error).splitlines()[0]}")
    return found


def tracked_runs(settings: Settings, warn: Say = lambda message: None) -> dict[str, str]:
    """Address of the finalist's run by config hash; nothing where MLflow is a file, which a reader cannot open."""
    if not settings.mlflow.startswith(("http://", "https://")):
        return {}
    from orchestrator.tracking.client import LOST, connect

    try:
        return finalist_runs(connect(settings), settings.mlflow)
    except (*LOST, UserError) as error:
        warn(f"the tracking server cannot be read, so no entry links to its run: {str(error).splitlines()[0]}")
        return {}


def finalist_runs(client: MlflowClient, uri: str) -> dict[str, str]:
    """Addresses on the server of that URI by config hash, of each config's newest run."""
    from orchestrator.tracking.client import pages

    place = urlsplit(uri)
    server = place._replace(netloc=place.netloc.rpartition("@")[2]).geturl().rstrip("/")  # without name and password
    known = pages(lambda token: client.search_experiments(page_token=token))
    experiments = [experiment.experiment_id for experiment in known]
    finalists = "tags.`lungtune.kind` = 'finalist'"
    found: dict[str, str] = {}
    for run in pages(lambda token: client.search_runs(experiments, finalists, page_token=token)):  # newest first
        address = f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        found.setdefault(run.data.tags.get("lungtune.config_hash", ""), address)
    return found


def _nothing_tracked(settings: Settings) -> bool:
    """Whether MLflow's own database has not been made yet; none is made in passing."""
    database = database_file(settings.mlflow)
    return database is not None and not database.exists()
