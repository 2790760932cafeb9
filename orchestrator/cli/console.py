"""Where the command line writes: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

WIDTH_OF_FILES = 140  # of tables that go to a file or a pipe, where there is no terminal to ask

out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_FILES)


def print_json(content: Any) -> None:
    """One JSON document on stdout, for `--json`."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")
