"""One program in the background, known by its pid file: started, found again, and ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Process:
    """A program that outlives the one that starts it. It leads a session of its own, so that its children are known.

    The pid file holds its number and when it started: a number that has gone to another program is not taken for it.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.pid_file, self.log = name, folder / f"{name}.pid", folder / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, user: str | None = None
    ) -> None:
        """Start it in a folder, as another user if one is named; its output goes to the log."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,  # also of sockets, by which others could else ask it for anything
                **rights_of(user),
            )
        self.pid_file.write_text(f"{self._child.pid} {started_at(self._child.pid) or 'gone'}\n")

    @property
    def pid(self) -> int | None:
        """Its number, if it was started and not stopped since."""
        try:
            return int(self.pid_file.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None

    def running(self) -> bool:
        """Whether the very program that was started is there."""
        pid = self.pid
        if pid is None:
            return False
        if self._child is not None:
            self._child.poll()  # an ended child would else be there until it is asked for
        return started_at(pid) == self.pid_file.read_text().partition(" ")[2].strip()

    def stop(self, asking: signal.Signals = signal.SIGTERM, patience: float = 20.0) -> bool:
        """End it and what it started; what does not end within `patience` seconds is killed. Whether it was running."""
        pid = self.pid
        if pid is None:
            return False
        was_running = self.running()
        if was_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, asking)
            until = time.monotonic() + patience
            while self.running() and time.monotonic() < until:
                time.sleep(0.05)
        if self.running() or started_at(pid) is None:  # else the number is another program's, and no child is left
            _kill_session(pid)
        if self._child is not None:
            self._child.wait()
        self.pid_file.unlink(missing_ok=True)
        return was_running

    def last_words(self, length: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-length:] if self.log.exists() else ""


def started_at(pid: int) -> str | None:
    """When a program started, which no other of that number shares. None if it is not there, or has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else fields[19]
    asked = ["ps", "-o", "lstart=", "-p", str(pid)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}).stdout
    return said.strip() or None


def _kill_session(leader: int) -> None:
    """Kill what is left of a session, until nothing is."""
    while members := _session(leader):
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        time.sleep(0.05)


def _session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True).stdout
    members = []
    for pid in map(int, listed.split()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader and started_at(pid) is not None:
                members.append(pid)
    return members


def rights_of(user: str | None) -> dict[str, Any]:
    """What `subprocess` is told to run a program as a user and in that user's group alone; nothing for this one."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
