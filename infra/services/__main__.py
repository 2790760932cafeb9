"""The command line, also behind `make services`: `python -m infra.services start|stop|status`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from feature_store.errors import UserError
from infra.services.ports import NAMES
from infra.services.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """0 on success, 1 if `status` finds one that cannot be used, 2 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.services",
        description="PostgreSQL, S3, MLflow with a password and a Ray cluster of two nodes, on this machine.",
    )
    parser.add_argument("command", choices=("start", "stop", "status"))
    parser.add_argument("ports", nargs="*", metavar="NAME=PORT", help=f"a port that is not drawn: {', '.join(NAMES)}")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("LUNGTUNE_HOME") or "lungtune-home"))
    parser.add_argument("--cpus", type=int, help="CPUs of the Ray cluster, both nodes together (the machine's)")
    given = parser.parse_args(arguments)
    stack = Stack(given.home)
    try:
        if given.command == "stop":
            stack.stop(print)
        elif given.command == "status":
            return 0 if stack.status(print) else 1
        else:
            layout = stack.start(dict(map(_port, given.ports)), print, given.cpus)
            print(f"\nAll are up. Next:  source {layout.env_file} && lungtune doctor")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise UserError(f"'{text}' is not NAME=PORT", where="PORTS")
    return name, int(number)


if __name__ == "__main__":
    sys.exit(main())
