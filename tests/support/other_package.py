"""Another installed package: a folder with modules and the metadata of a distribution, for `sys.path`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.config.models import MODELS
from workers.config.objectives import OBJECTIVES


def write_package(
    folder: Path,
    entry_points: str,
    files: Mapping[str, str],
    *,
    name: str = "toy-package",
    version: str | None = "1.0",
) -> Path:
    """Modules and metadata as an installer leaves them; `folder` is then what has to be on the path.

    Args:
        folder: may exist; another version of the package in it is replaced.
        entry_points: content of ``entry_points.txt``.
        files: text by the module's path.
        name, version: of the distribution; None leaves the version out.
    """
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    about = folder / f"{name.replace('-', '_')}.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    numbered = f"Version: {version}\n" if version else ""
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{numbered}")
    (about / "entry_points.txt").write_text(entry_points)
    return folder


@contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """The packages of these folders, as a new process finds them; nothing of them is left afterwards."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(folder)
        for classes in (MODELS, OBJECTIVES):
            patch.setattr(classes, "_outside", {})
        try:
            yield
        finally:
            roots = tuple(str(folder) for folder in folders)
            for module in set(sys.modules) - before:
                if (getattr(sys.modules[module], "__file__", None) or "").startswith(roots):
                    del sys.modules[module]
