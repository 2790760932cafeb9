"""A Ray cluster of two nodes on this machine, closed by a token."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from feature_store.errors import UserError
from infra.services.layout import INFRA, Layout
from infra.services.ports import HOST
from infra.services.service import Service, http

OBJECT_STORE = 256 * 2**20  # bytes a node: features go by mapped files, only small results by Ray
START = str(INFRA / "start-ray.sh")
SESSION = "s"  # within the private folder: Ray opens its own folder to everybody, and names of sockets must be short


def head(layout: Layout, cpus: int) -> Service:
    """The first node. It has the GPUs: two nodes would each count them all."""
    dashboard = layout.ports["dashboard"]
    environment = _environment(layout) | {
        "RAY_PORT": str(layout.ports["ray"]),
        "RAY_DASHBOARD_PORT": str(dashboard),
        "RAY_DASHBOARD_HOST": HOST,
    }
    options = [f"--temp-dir={layout.ray_folder / SESSION}", f"--ray-client-server-port={layout.ports['ray-client']}"]
    return Service(
        name="ray-head",
        where=f"{HOST}:{layout.ports['ray']}, jobs at http://{HOST}:{dashboard}, {cpus} CPUs",
        command=[START, "head", *_common(cpus), *options],
        environment=environment,
        folder=layout.folder,
        missing=lambda: _too_few_nodes(layout, 1),
        prepare=lambda: _own_folder(layout.ray_folder),
    )


def worker(layout: Layout, cpus: int) -> Service:
    """The second node."""
    address = f"{HOST}:{layout.ports['ray']}"
    return Service(
        name="ray-worker",
        where=f"a second node, {cpus} CPUs",
        command=[
            sys.executable,
            str(INFRA / "ray_on_loopback.py"),
            "start",
            f"--address={address}",
            *_common(cpus),
            "--num-gpus=0",
            "--min-worker-port=0",  # the nodes' worker processes would else take the same ports
            "--max-worker-port=0",
        ],
        environment=_environment(layout) | {"CUDA_VISIBLE_DEVICES": ""},
        folder=layout.folder,
        missing=lambda: _too_few_nodes(layout, 2),
        after=("ray-head",),
    )


def _common(cpus: int) -> list[str]:
    node = [f"--node-ip-address={HOST}", f"--num-cpus={cpus}", f"--object-store-memory={OBJECT_STORE}"]
    return ["--block", "--disable-usage-stats", "--dashboard-agent-listen-port=0", *node]


def _environment(layout: Layout) -> dict[str, str]:
    """Of both nodes."""
    return layout.environment() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_register_timeout_seconds": "600"}


def split_cpus(total: int) -> tuple[int, int]:
    """The machine's CPUs over head and worker; each has one at least."""
    return max(1, total - total // 2), max(1, total // 2)


def _too_few_nodes(layout: Layout, wanted: int) -> str:
    token = (layout.secrets / "ray-token").read_text().strip()
    url = f"http://{HOST}:{layout.ports['dashboard']}/api/v0/nodes"
    status, body = http(url, {"Authorization": f"Bearer {token}"})
    if status != 200:
        return f"{status} {body.decode(errors='replace')[:200]}"
    nodes = json.loads(body)["data"]["result"]["result"]
    alive = sum(node["state"] == "ALIVE" for node in nodes)
    return "" if alive >= wanted else f"{alive} of {wanted} nodes are there"


def _own_folder(folder: Path) -> None:
    """An empty folder for Ray's session, that this user alone can enter."""
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.geteuid()):
        raise UserError(f"{folder} belongs to somebody else", where="ray-head", hint="set TMPDIR to a folder of yours")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
