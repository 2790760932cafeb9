"""The nightly run: score every registered model again, rebuild the board, and say what changed since the night before.

Every step can be done twice, and the snapshot that the next night compares with is written last. So a run that was
killed costs nothing: the next one compares with the night before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from feature_store.errors import UserError
from feature_store.redaction import mask
from feature_store.settings import Settings
from feature_store.storage import Storage
from orchestrator.leaderboard.site.build import write_site
from orchestrator.nightly.changes import Changes, compare, page
from orchestrator.nightly.snapshot import NAME, Checked, Snapshot, failed_trials, folder_of, latest, standings
from orchestrator.registry.registry import Registry
from orchestrator.registry.version import CHAMPION
from orchestrator.tracking.client import LOST
from workers.lease import lease
from workers.provenance import now
from workers.results import ResultStore

PAGE, DATA = "changes.md", "changes.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Night:
    """What a nightly run came to.

    Attributes:
        changes: since the night before.
        warnings: what it had to do without.
        report: the night as Markdown.
        files: file name -> where it lies.
        board: file name -> where it lies.
    """

    changes: Changes
    warnings: list[str]
    report: str
    files: dict[str, str]
    board: dict[str, str]


def run_night(
    settings: Settings, out: str | Path, say: Say = lambda text: None, warn: Say = lambda text: None
) -> Night:
    """Check, rebuild, compare, write down.

    Args:
        settings: of the installation.
        out: where the board goes: a folder or ``s3://bucket/prefix``.
        say: told what is being done.
        warn: told what has to be done without.

    Raises:
        UserError: another nightly run is at it, or the board cannot be written.
    """
    storage, warnings = ResultStore.open(settings.results).storage, []

    def without(text: str) -> None:
        text = mask(text)
        warnings.append(text)
        warn(text)

    waiting = "watching whether another nightly run lives"
    with lease(storage, "nightly", str(settings.home), what="the nightly run", wait=lambda holder: say(waiting)):
        before, when = latest(storage), now()
        champions, checked = _check(settings, before, say, without)
        board, places = write_site(settings, out, warn=without, progress=say)
        after = Snapshot(
            when=when,
            entries=standings(board),
            champions=champions,
            checked=checked,
            failed=_failed(settings, before, without),
            problems={problem.result: problem.what for problem in board.problems},
        )
        changes = compare(before, after)
        report = page(changes, warnings)
        files = _write(storage, after, changes, report)
    return Night(changes, warnings, report, files, places)


def _check(
    settings: Settings, before: Snapshot | None, say: Say, warn: Say
) -> tuple[dict[str, str], dict[str, Checked]]:
    """The champions, and every registered version run again. Without the registry, what the night before said."""
    try:
        registry = Registry.open(settings)
        versions = registry.versions()
    except (*LOST, SQLAlchemyError, UserError) as error:
        warn(f"the registry cannot be read, so no model was checked: {str(error).splitlines()[0]}")
        return (dict(before.champions), dict(before.checked)) if before else ({}, {})
    checked: dict[str, Checked] = {}
    for i, version in enumerate(versions):
        say(f"running {version} again ({i + 1} of {len(versions)})")
        try:
            passed, detail = registry.policy.verified.judge(registry.verify(version))
        except (MlflowException, RequestException) as error:
            warn(f"the registry was lost while {version} was checked: {str(error).splitlines()[0]}")
            if before and str(version) in before.checked:
                checked[str(version)] = before.checked[str(version)]
            continue
        except UserError as error:  # one that cannot be checked keeps no other from being checked
            passed, detail = False, str(error)
        except Exception as error:  # whatever is in its card, weights or results
            passed, detail = False, f"cannot be checked ({type(error).__name__}: {error})"
        checked[str(version)] = Checked(passed=bool(passed), detail=detail)
    return {v.name: v.version for v in versions if CHAMPION in v.aliases}, checked


def _failed(settings: Settings, before: Snapshot | None, warn: Say) -> dict[str, str]:
    try:
        return failed_trials(settings)
    except (UserError, SQLAlchemyError, OSError, ValueError, KeyError, TypeError) as error:
        warn(f"Optuna's studies cannot be read, so failed trials are not known: {(str(error).splitlines() or [''])[0]}")
        return dict(before.failed) if before else {}


def _write(storage: Storage, snapshot: Snapshot, changes: Changes, report: str) -> dict[str, str]:
    """The night's files; the snapshot is the last, and makes the night one to compare with."""
    folder = folder_of(snapshot.when)
    content = {PAGE: report, DATA: changes.model_dump_json(indent=1), NAME: snapshot.model_dump_json()}
    for name, text in content.items():
        storage.write(f"{folder}/{name}", mask(text).encode())
    return {name: storage.uri(f"{folder}/{name}") for name in content}
