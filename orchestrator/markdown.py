"""Text from elsewhere in Markdown that lungtune writes: it is shown as it is, and is neither HTML nor markup."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)|~~|!(?=\[)|^[#>]")
HTML = {"&": "&amp;", "<": "&lt;"}


def text(value: object) -> str:
    """A value in a line, a cell or a heading. Line ends become spaces.

    A backslash stands before what CommonMark and GitHub's tables would read as markup, and HTML is written as entities.
    """
    line = " ".join(str(value).split())
    entities = re.sub("[&<]", lambda found: HTML[found[0]], line)
    return SPECIAL.sub(lambda found: f"\\{found[0]}", entities)


def code(value: object) -> str:
    """A value as code, in a cell too: backticks would end it and become apostrophes."""
    line = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def row(cells: list[str] | tuple[str, ...]) -> str:
    """A row of a table, of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"
