"""Optuna's storage: opened, and what is in it found by name."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from feature_store.counted import counted
from feature_store.errors import UserError, nearest
from feature_store.redaction import mask
from feature_store.settings import Settings
from orchestrator.studies.journal import open_journal


def open_storage(location: str) -> optuna.storages.BaseStorage:
    """A journal file, or a database by its SQLAlchemy URL.

    Raises:
        UserError: the database cannot be reached, or the file is no journal.
    """
    if "://" not in location:
        return open_journal(Path(location))
    try:
        return RDBStorage(location)
    except Exception as error:  # SQLAlchemy's and the driver's own classes, none of them ours
        raise UserError(
            f"Optuna's storage cannot be opened: {type(error).__name__}",
            where=f"LUNGTUNE_OPTUNA={mask(location)}",
            hint="is the database up, and its driver installed (pip install lungtune[postgres])? See `lungtune doctor`",
        ) from error


def studies(settings: Settings) -> list[str]:
    """Names of all studies of the storage."""
    return sorted(optuna.get_all_study_names(open_storage(settings.optuna)))


def find_study(name: str, settings: Settings) -> str:
    """The one study of that name, or that begins so.

    Raises:
        UserError: there is none, or more than one.
    """
    known = studies(settings)
    found = [name] if name in known else [one for one in known if one.startswith(name)]
    if len(found) == 1:
        return found[0]
    hint = nearest(name, known) if known and not found else f"known: {', '.join(found or known) or 'none yet'}"
    count = counted(len(found), "study begins", "studies begin") if found else "no study begins"
    raise UserError(f"{count} with '{name}'", where="study", hint=hint)


def load_study(name: str, settings: Settings) -> optuna.Study:
    """A study for reading.

    Raises:
        UserError: there is none of that name, or more than one.
    """
    return optuna.load_study(study_name=find_study(name, settings), storage=open_storage(settings.optuna))


def find_trial(study: str, number: int, settings: Settings) -> FrozenTrial:
    """One trial of a study.

    Raises:
        UserError: there is no such study or trial.
    """
    trials = load_study(study, settings).get_trials(deepcopy=False)
    if not 0 <= number < len(trials) or "config" not in trials[number].user_attrs:
        raise UserError(f"the study has no trial {number}", where=study, hint=f"its trials are 0 to {len(trials) - 1}")
    return trials[number]


def score_of(trial: FrozenTrial) -> float:
    """The Score of a complete trial, whether or not it has a cost beside it."""
    return trial.values[0]
