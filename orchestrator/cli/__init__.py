"""The command line: thin commands over the packages, one file a group."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow is the log


def main() -> None:
    """Run the command line: exit 0 on success, 2 for bad input."""
    import logging

    from rich.text import Text

    from feature_store.errors import UserError
    from orchestrator.cli.app import app
    from orchestrator.cli.console import err

    for chatty in ("mlflow", "alembic", "ray", "ray.tune"):  # lungtune tells what they would tell
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        app(prog_name="lungtune")
    except UserError as error:
        message = Text("error: ", style="bold red")
        if error.where:
            message.append(f"{error.where}: ", style="bold")
        message.append(error.what, style="default")
        err.print(message, soft_wrap=True)
        if error.hint:
            err.print(Text(f"  {error.hint}", style="cyan"), soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped; the same command goes on from here", soft_wrap=True)
        sys.exit(130)
