"""The site of one installation: its results, with the models that its registry holds marked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from feature_store.settings import Settings
from orchestrator.leaderboard.collect import build_board
from orchestrator.leaderboard.render import PAGE, write
from workers.results import ResultStore


def build_site(settings: Settings, out: Path) -> Path:
    """Build the board and write its files.

    Args:
        settings: where results and registry are.
        out: folder to write to.

    Returns:
        The page.

    Raises:
        UserError: the folder cannot be written.
    """
    write(build_board(ResultStore.open(settings.results), registered_models(settings)), out)
    return out / PAGE


def registered_models(
    settings: Settings, warn: Callable[[str], None] = lambda message: None
) -> dict[str, dict[str, Any]]:
    """Registered models by config hash, as `build_board` takes them.

    A registry that cannot be reached costs the rows their badges, not the board: `warn` is told. Where MLflow's own
    database has not been made yet, nothing is registered, and none is made.
    """
    database = settings.mlflow.removeprefix("sqlite:///")
    if database != settings.mlflow and not Path(database).exists():
        return {}
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.registry import CHAMPION, Registry
    from orchestrator.tracking import LOST

    try:
        versions = Registry.open(settings).versions()
    except (*LOST, SQLAlchemyError) as error:
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
