"""The corpora that lungtune reads: every module of this package, and entry points of the group `lungtune.corpora`.

An adapter that cannot be imported or breaks the contract costs itself alone: it is named by `broken_adapters`, and
only a command that asks for it is refused.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

from feature_store.datasets.base import Corpus, Cycle, Problem, Recording
from feature_store.datasets.contract import check_class, check_corpus
from feature_store.entry_points import cannot_import, entry_point, load_class, offered, place_of
from feature_store.errors import UserError, nearest

ENTRY_POINTS = "lungtune.corpora"

__all__ = [
    "CORPORA",
    "Corpus",
    "Cycle",
    "Problem",
    "Recording",
    "broken_adapters",
    "corpora_in",
    "corpus_class",
    "open_corpus",
]


def corpora_in(package: str, path: list[str]) -> tuple[dict[str, type[Corpus]], list[UserError]]:
    """The concrete subclasses of `Corpus` in a package's modules, by name, and what is wrong with the others."""
    found: dict[str, type[Corpus]] = {}
    broken: list[UserError] = []
    for module in pkgutil.iter_modules(path):
        where = f"module {package}.{module.name}"
        try:
            members = inspect.getmembers(importlib.import_module(f"{package}.{module.name}"), inspect.isclass)
        except (Exception, SystemExit) as error:  # whatever its code does while it is imported
            broken.append(cannot_import(where, error))
            continue
        for _, item in members:
            if not issubclass(item, Corpus) or inspect.isabstract(item):
                continue
            try:
                check_class(item)
                if found.setdefault(item.name, item) is not item:
                    what = f"{item.__name__} and {found[item.name].__name__} have one name, '{item.name}'"
                    raise UserError(what, where=where, hint="the first is used; rename the other")
            except UserError as error:
                broken.append(error)
    return found, broken


CORPORA, _BROKEN = corpora_in(__name__, list(__path__))


def broken_adapters() -> list[UserError]:
    """What is wrong with adapters that cannot be used, of this package and of installed ones, which this imports."""
    broken = list(_BROKEN)
    for name in offered(ENTRY_POINTS):
        try:
            _installed_corpus(name)
        except UserError as error:
            broken.append(error)
    return broken


def open_corpus(name: str, root: str | Path) -> Corpus:
    """Read the corpus `name` from the folder `root`, and check that the adapter keeps the contract of a `Corpus`.

    Raises:
        UserError: no such corpus, no such folder, nothing of this corpus in it, or a fault of the adapter.
    """
    corpus = corpus_class(name)
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError("is a file, not a folder" if root.exists() else "there is no such folder", where=str(root))
    try:
        opened = corpus(root.resolve())
    except (UserError, MemoryError):
        raise
    except Exception as error:
        where = f"adapter {corpus.__module__}.{corpus.__name__}"
        what = f"failed while it read {root}: {type(error).__name__}: {error}"
        raise UserError(what, where=where, hint="report it to those who maintain the adapter") from error
    check_corpus(opened)
    return opened


def corpus_class(name: str) -> type[Corpus]:
    """The adapter of the corpus `name`, of this package or installed.

    Raises:
        UserError: no such corpus, or its adapter cannot be used.
    """
    return CORPORA.get(name) or _installed_corpus(name)


def _installed_corpus(name: str) -> type[Corpus]:
    """A corpus that another installed package brings."""
    entry = entry_point(ENTRY_POINTS, name)
    if entry is None:
        hint = nearest(name, {*CORPORA, *offered(ENTRY_POINTS)})
        if _BROKEN:
            hint += f"; cannot be used: {'; '.join(str(error) for error in _BROKEN)}"
        raise UserError(f"unknown dataset '{name}'", hint=hint)
    where, corpus = place_of(entry), load_class(entry, Corpus)  # type: ignore[type-abstract]
    if inspect.isabstract(corpus):
        lacking = ", ".join(sorted(corpus.__abstractmethods__))
        raise UserError(f"lacks {lacking}, which a Corpus must have", where=where, hint="fix the adapter")
    check_class(corpus)
    if corpus.name != name:
        hint = "give both the same name: it is the folder in the store"
        raise UserError(f"the corpus calls itself '{corpus.name}'", where=where, hint=hint)
    return corpus
