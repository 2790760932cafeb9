"""The command line: thin commands over the packages, one file per group."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow is the log


def main() -> None:
    """Run the command line: exit 0 on success, 2 for bad input and foreign faults, 1 for a fault of lungtune's.

    Passwords are masked in everything that it writes. A reader that goes away (``| head``) ends it with 141.
    """
    import logging

    from feature_store.redaction import ReaderGone
    from orchestrator.execution.surroundings import reach_this_machine

    reach_this_machine()
    for chatty in ("mlflow", "alembic", "ray", "ray.tune"):  # lungtune tells what they would tell
        logging.getLogger(chatty).setLevel(logging.ERROR)
    code: int | str | None = 0
    with _masked_output():
        try:
            try:
                code = _run()
            finally:
                sys.stdout.flush()
        except ReaderGone as gone:
            code = gone.code
        except OSError as error:  # stdout's own: a full disk
            with contextlib.suppress(OSError, ReaderGone):
                _discard(sys.stdout)
                code = _ended(error)
    sys.exit(code)


def _run() -> int | str | None:
    """The exit code of the command that the arguments name."""
    from orchestrator.cli.console import err

    try:
        from orchestrator.cli.app import app

        app(prog_name="lungtune")
    except SystemExit as end:
        if type(end) is not SystemExit:
            raise
        return end.code
    except KeyboardInterrupt:
        err.print("stopped; the same command goes on from here", soft_wrap=True)
        return 130
    except Exception as error:  # the last net: every command ends with a message and a code
        return _ended(error)
    return 0


def _ended(error: BaseException) -> int:
    """Say what ended the program; its exit code."""
    import traceback

    from rich.text import Text

    from orchestrator.cli.console import err
    from orchestrator.cli.foreign_errors import explain

    known = explain(error)
    if os.environ.get("LUNGTUNE_TRACEBACK", "") not in ("", "0"):
        sys.stderr.write("".join(traceback.format_exception(error)))
    message = Text("error: ", style="bold red")
    if known is None:
        message.append(f"a fault of lungtune: {type(error).__name__}: {error}"[:500], style="default")
        err.print(message, soft_wrap=True)
        err.print(Text(f"  {_kept_traceback(error)}", style="cyan"), soft_wrap=True)
        return 1
    if known.where:
        message.append(f"{known.where}: ", style="bold")
    message.append(known.what, style="default")
    err.print(message, soft_wrap=True)
    if known.hint:
        err.print(Text(f"  {known.hint}", style="cyan"), soft_wrap=True)
    return 2


def _kept_traceback(error: BaseException) -> str:
    """Write the traceback to a file of this user's own, masked; where it is, for whoever reports the fault."""
    import tempfile
    import traceback

    from feature_store.redaction import mask

    text = mask(f"lungtune {' '.join(sys.argv[1:])}\n" + "".join(traceback.format_exception(error)))
    try:
        number, path = tempfile.mkstemp(prefix="lungtune-traceback-", suffix=".txt")
        with os.fdopen(number, "w", errors="replace") as file:
            file.write(text)
    except OSError:
        return "LUNGTUNE_TRACEBACK=1 shows where"
    return f"please report it with {path}; LUNGTUNE_TRACEBACK=1 shows the same here"


@contextlib.contextmanager
def _masked_output() -> Iterator[None]:
    from feature_store.redaction import MaskedStream

    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))  # of a stream that was closed before the start
        sys.stdout = MaskedStream(before[0] or nowhere)
        sys.stderr = MaskedStream(before[1] or nowhere)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _discard(stream: object) -> None:
    """Let what a stream still holds go nowhere, so that the interpreter's end does not try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
    os.close(nowhere)
