"""Where the command line writes: results to stdout, progress and errors to stderr, passwords nowhere."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestrator.redaction import ReaderGone, mask, masked

WIDTH_OF_FILES = 140  # of tables that go to a file or a pipe, where there is no terminal to ask


class MaskedConsole(Console):
    """A console that masks before it wraps: a line's end in the middle of a URI would hide it from the stream."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(mask(text), **options)

    def on_broken_pipe(self) -> None:
        raise ReaderGone


out = MaskedConsole(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
err = MaskedConsole(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_FILES)


def print_json(content: Any) -> None:
    """One JSON document on stdout, for `--json`."""
    sys.stdout.write(json.dumps(masked(content), indent=2, default=str) + "\n")
