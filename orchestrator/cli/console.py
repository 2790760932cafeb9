"""Where the command line writes: results to stdout, progress and errors to stderr, passwords nowhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from feature_store.errors import printable
from feature_store.redaction import ReaderGone, mask, masked

WIDTH_OF_FILES = 140  # of tables that go to a file or a pipe, where there is no terminal to ask


class SafeConsole(Console):
    """Masks passwords, and escapes what cannot be written or would steer the terminal, such as in a file's name.

    It masks before it wraps: a line's end in the middle of a URI would hide it from the stream. Line breaks stay.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(mask(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                text = "\n".join(printable(line) for line in segment.text.split("\n"))
                yield Segment(text, segment.style)

    def on_broken_pipe(self) -> None:
        raise ReaderGone


out = SafeConsole(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
err = SafeConsole(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_FILES)


def print_json(content: Any) -> None:
    """One JSON document on stdout, for `--json`."""
    sys.stdout.write(json.dumps(masked(content), indent=2, default=str) + "\n")
