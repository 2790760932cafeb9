"""The corpora that lungtune reads: every module of this package, and entry points of the group `lungtune.corpora`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

from feature_store.datasets.base import Corpus, Cycle, Problem, Recording
from feature_store.errors import UserError, nearest

ENTRY_POINTS = "lungtune.corpora"

__all__ = ["CORPORA", "Corpus", "Cycle", "Problem", "Recording", "corpus_class", "open_corpus"]


def _own_corpora() -> dict[str, type[Corpus]]:
    """The concrete subclasses of `Corpus` in this package's modules, by name."""
    found: dict[str, type[Corpus]] = {}
    for module in pkgutil.iter_modules(__path__):
        for _, item in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(item, Corpus) and not inspect.isabstract(item):
                found[item.name] = item
    return found


CORPORA: dict[str, type[Corpus]] = _own_corpora()


def open_corpus(name: str, root: str | Path) -> Corpus:
    """Read the corpus `name` from the folder `root`.

    Raises:
        UserError: no such corpus, no such folder, or nothing of this corpus in it.
    """
    corpus = corpus_class(name)
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError("is a file, not a folder" if root.exists() else "there is no such folder", where=str(root))
    return corpus(root.resolve())


def corpus_class(name: str) -> type[Corpus]:
    """The adapter of the corpus `name`, of this package or installed.

    Raises:
        UserError: no such corpus.
    """
    return CORPORA.get(name) or _installed_corpus(name)


def _installed_corpus(name: str) -> type[Corpus]:
    """A corpus that another installed package brings."""
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in installed:
        raise UserError(f"unknown dataset '{name}'", hint=nearest(name, {*CORPORA, *installed}))
    where = f"entry point {name} = {installed[name].value}"
    try:
        corpus = installed[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot be loaded: {error}", where=where) from error
    if not (inspect.isclass(corpus) and issubclass(corpus, Corpus)):
        raise UserError("is not a subclass of feature_store.datasets.Corpus", where=where)
    return corpus
