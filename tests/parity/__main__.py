"""Writes the table of docs/parity.md: the largest difference between lungtune's numbers and the original's.

usage: python -m tests.parity [--json] [KEY...]

A row whose library or file is not at hand is left out, and what it needs is named on stderr. A key is a row's, or how
several begin. `before` is what the same rows gave with lungtune's code of commit 6c0fbcb (before.json).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.parity import breathing_phase, cycleguardian, patchmix
from tests.parity.rows import Missing, Row

BEFORE = Path(__file__).with_name("before.json")


def all_rows() -> list[Row]:
    return [row for module in (patchmix, breathing_phase, cycleguardian) for row in module.rows()]


def main() -> None:
    chosen = [word for word in sys.argv[1:] if not word.startswith("-")]
    rows = [row for row in all_rows() if not chosen or row.key.startswith(tuple(chosen))]
    if not rows:
        sys.exit(f"no row begins with {', '.join(chosen)}; known: {', '.join(row.key for row in all_rows())}")
    found = measured(rows)
    if "--json" in sys.argv:
        print(json.dumps(found, indent=1))
    else:
        print(table([row for row in rows if row.key in found], found, json.loads(BEFORE.read_text())))


def measured(rows: list[Row]) -> dict[str, float]:
    """The largest difference of each row that can be measured here; the others are named on stderr."""
    found, left_out = {}, []
    for row in rows:
        print(f"# {row.key} ...", file=sys.stderr, flush=True)
        try:
            found[row.key] = row.measure()
        except Missing as missing:
            left_out.append(f"left out: {row.key}: needs {missing}")
    for line in left_out:
        print(line, file=sys.stderr)
    return found


def table(rows: list[Row], found: dict[str, float], before: dict[str, float]) -> str:
    """In Markdown, a line per row."""
    lines = ["| what | original | unit | before | now |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        earlier = f"{before[row.key]:.2g}" if row.key in before else ""
        lines.append(f"| {row.what} | {row.original} | {row.unit} | {earlier} | {found[row.key]:.2g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
