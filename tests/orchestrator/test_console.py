"""What reaches the terminal: nothing that cannot be written, nothing that steers it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from feature_store.errors import printable
from orchestrator.cli.console import SafeConsole


@given(st.binary(max_size=30))
def test_any_name_can_be_written_and_told_apart(name: bytes) -> None:
    text = printable(os.fsdecode(name))
    text.encode()
    assert not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in text)
    try:
        plain = name.decode()
    except UnicodeDecodeError:
        return
    assert text == plain or not plain.isprintable()


@given(st.binary(max_size=30))
def test_the_console_writes_any_name(name: bytes) -> None:
    sink, shown = io.StringIO(), os.fsdecode(name).replace("\n", "")
    console = SafeConsole(file=sink, width=200)
    table = Table(shown.replace("[", ""))
    table.add_row(shown.replace("[", ""))
    console.print(table)
    console.print(shown, markup=False)
    sink.getvalue().encode()
    assert not any((ord(one) < 32 and one != "\n") or 127 <= ord(one) < 160 for one in sink.getvalue())


def test_styles_still_reach_a_terminal() -> None:
    sink = io.StringIO()
    SafeConsole(file=sink, force_terminal=True, color_system="standard").print("[red]a\x1b[2J[/red]", highlight=False)
    assert sink.getvalue() == "\x1b[31ma\\x1b[2J\x1b[0m\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [("data", "check", "--root"), ("features", "build", "--root"), ("plan",)])
def test_a_path_that_is_no_utf_8_ends_in_a_message(command: tuple[str, ...], tmp_path: Path) -> None:
    line = [sys.executable, "-m", "orchestrator", *command, os.fsdecode(b"c\xe9\x1b[31m")]
    done = subprocess.run(line, cwd=tmp_path, env=os.environ | {"LUNGTUNE_HOME": str(tmp_path)}, capture_output=True)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert rb"c\xe9\x1b[31m" in done.stderr and b"\x1b" not in done.stderr
