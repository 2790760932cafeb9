"""Where the command line writes: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from feature_store.errors import printable

WIDTH_OF_FILES = 140  # of tables that go to a file or a pipe, where there is no terminal to ask


class SafeConsole(Console):
    """Escapes what cannot be written or would steer the terminal, such as in a file's name. Line breaks stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                text = "\n".join(printable(line) for line in segment.text.split("\n"))
                yield Segment(text, segment.style)


out = SafeConsole(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
err = SafeConsole(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_FILES)


def print_json(content: Any) -> None:
    """One JSON document on stdout, for `--json`."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")
