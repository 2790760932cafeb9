"""The ports of the services: drawn once among the free ones, remembered, and checked before they are used."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from feature_store.errors import UserError, nearest

HOST = "127.0.0.1"
S3_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
"""SeaweedFS' ports, by the names of its options."""
SERVICE_PORTS: dict[str, tuple[str, ...]] = {
    "postgres": ("postgres",),
    "s3": S3_PORTS,
    "mlflow": ("mlflow",),
    "ray-head": ("ray", "dashboard", "ray-client"),
    "ray-worker": (),
}
NAMES = tuple(name for names in SERVICE_PORTS.values() for name in names)


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on; all of them are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def load_ports(file: Path) -> dict[str, int]:
    """The remembered ports; none before the first start.

    Raises:
        UserError: the file is not what `choose_ports` writes.
    """
    if not file.exists():
        return {}
    try:
        ports = json.loads(file.read_text())
        return {name: int(ports[name]) for name in NAMES}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("does not hold every port", where=str(file), hint="remove it: ports are drawn again") from error


def choose_ports(file: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """A port for every name: the wanted one, else the remembered one, else one that is free. They are remembered.

    Raises:
        UserError: a name that no service has.
    """
    for name in wanted:
        if name not in NAMES:
            raise UserError(f"no service has a port named '{name}'", where="PORTS", hint=nearest(name, NAMES))
    known = load_ports(file)
    drawn = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    ports = {**drawn, **known, **wanted}
    if ports != known:
        file.write_text(json.dumps(ports, indent=1) + "\n")
    return ports


def check_free(names: Iterable[str], ports: Mapping[str, int]) -> None:
    """
    Raises:
        UserError: somebody else listens on one of these ports.
    """
    for name in names:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            try:
                probe.bind((HOST, ports[name]))
            except OSError as error:
                raise UserError(
                    f"port {ports[name]} is in use by another program",
                    where=name,
                    hint=f"end that program, or choose another port: make services PORTS={name}=NUMBER",
                ) from error
