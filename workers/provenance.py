"""Where a number comes from: versions, commit, machine, command."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import runpy
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from feature_store.redaction import mask

COMMIT_VARIABLE = "LUNGTUNE_GIT_COMMIT"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@functools.cache
def git_commit() -> str:
    """Commit of the code that runs, with ``-dirty`` if files differ from it; from the environment on a worker."""
    if told := os.environ.get(COMMIT_VARIABLE):
        return told
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


@functools.cache
def lungtune_version() -> str:
    """Version of the installed package; ``source`` where it runs from a folder."""
    try:
        return metadata.version("lungtune")
    except metadata.PackageNotFoundError:
        return "source"


@functools.cache
def torch_version() -> str:
    """With what it was built for, as ``2.11.0+cu130``; read from its file, since importing torch takes 0.4 GB."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return metadata.version("torch")
    return runpy.run_path(str(Path(spec.origin).with_name("version.py")))["__version__"]


def command_line() -> str:
    """The command that started this process, with its passwords masked."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [Path(sys.executable).name]
    return mask(shlex.join(words))


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "lungtune": lungtune_version(),
        "python": platform.python_version(),
        "torch": torch_version(),
        "hostname": platform.node(),
    }
