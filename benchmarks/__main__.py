"""`make bench`: every benchmark, each comparing within its own run.

usage: python -m benchmarks [--json] [NAME...]
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from typing import Any

NAMES = ("features", "first_step", "ast_step", "orchestration")
LONG = ("board", "scale")  # only where it is named


def main() -> None:
    quiet()
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or NAMES
    unknown = set(chosen) - set(NAMES) - set(LONG)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; known: {', '.join((*NAMES, *LONG))}")
    rows = []
    for name in chosen:
        print(f"# {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run()
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    show(rows)


def quiet() -> None:
    """The tables alone, without what Ray and MLflow say beside."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for chatty in ("mlflow", "alembic", "ray", "ray.tune"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def show(rows: list[dict[str, Any]]) -> None:
    """A row a line."""
    for row in rows:
        ratio = "" if row["ratio"] is None else f"x {row['ratio']:.3g}"
        print(f"{row['name']:<62} {row['value']:>10.4g} {row['unit']:<9} {ratio}")


if __name__ == "__main__":
    main()
