"""Entry points of other installed packages, and the classes that they name."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from feature_store.errors import UserError

Class = TypeVar("Class")
OUTSIDE = "fix or uninstall it; nothing else needs it"
"""What to do about a fault in another package's code."""


def offered(group: str) -> list[str]:
    """Names of the entry points of a group, sorted; nothing is loaded."""
    return sorted({entry.name for entry in entry_points(group=group)})


def entry_point(group: str, name: str) -> EntryPoint | None:
    """The entry point of a group with this name, not loaded; None where no package offers it.

    Raises:
        UserError: two packages offer it, so that nobody can say which of them is meant.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) > 1:
        what = f"two packages offer '{name}': {' and '.join(package_of(entry) for entry in found)}"
        raise UserError(what, where=f"entry points {group}", hint="uninstall one of them")
    return found[0] if found else None


def load_class(entry: EntryPoint, base: type[Class]) -> type[Class]:
    """The class that an entry point names.

    Raises:
        UserError: it cannot be imported, or is no subclass of `base`.
    """
    where = place_of(entry)
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # whatever its code does while it is imported
        raise cannot_import(where, error) from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"is not a subclass of {base.__module__}.{base.__name__}", where=where, hint=OUTSIDE)
    return found


def place_of(entry: EntryPoint) -> str:
    """Where an entry point is, for messages: ``entry point toy = toy_package:ToyCorpus``."""
    return f"entry point {entry.name} = {entry.value}"


def package_of(entry: EntryPoint) -> str:
    """Name and version of the distribution that has an entry point: ``toy-package 1.0``.

    Raises:
        UserError: its metadata lack one of the two.
    """
    about = entry.dist.metadata if entry.dist else None
    if about is None or "Name" not in about or "Version" not in about:
        hint = "install it again: results are kept apart by the version of the code that gave them"
        raise UserError("its package has no name and version", where=place_of(entry), hint=hint)
    return f"{about['Name']} {about['Version']}"


def cannot_import(where: str, error: BaseException) -> UserError:
    """The error of code of another package that fails while it is imported."""
    what = f"cannot be loaded: {type(error).__name__}: {error}"
    return UserError(what, where=where, hint=OUTSIDE)
