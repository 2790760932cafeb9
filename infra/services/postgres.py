"""PostgreSQL with the databases of MLflow and Optuna."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from feature_store.errors import UserError
from infra.services.layout import INFRA, USER, Layout, digest
from infra.services.ports import HOST
from infra.services.process import rights_of
from infra.services.service import Service

DATABASES = INFRA / "postgres" / "create-databases.sql"
DEBIAN = Path("/usr/lib/postgresql")  # where Debian and Ubuntu keep the servers of every version, outside of PATH
ELSEWHERE = Path("/var/tmp")


def program(name: str) -> Path | None:
    """A program of the server: on PATH, or else the newest that Debian has installed."""
    found = shutil.which(name)
    if found:
        return Path(found)
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]), reverse=True)
    return versions[0] if versions else None


def server_user() -> str | None:
    """The user that runs the server, if it must be another: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def data_folder(layout: Layout) -> Path:
    """The database's files: in the services' folder, or in /var/tmp if the server's user cannot enter the home."""
    inside = layout.folder / "postgres"
    if server_user() is None or all(folder.stat().st_mode & 0o001 for folder in inside.parents if folder.exists()):
        return inside
    return ELSEWHERE / f"lungtune-postgres-{digest(layout.home)}"


def service(layout: Layout) -> Service:
    """
    Raises:
        UserError: PostgreSQL is not installed.
    """
    server, ready = program("postgres"), program("pg_isready")
    if server is None or ready is None or program("initdb") is None:
        raise UserError(
            "PostgreSQL's server is not installed",
            where="postgres",
            hint="apt-get install postgresql, dnf install postgresql-server or brew install postgresql@17",
        )
    data, port = data_folder(layout), layout.ports["postgres"]

    def missing() -> str:
        asked = [str(ready), f"--host={HOST}", f"--port={port}", "--dbname=optuna", f"--username={USER}"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        return "" if answer.returncode == 0 else answer.stdout.strip() or answer.stderr.strip()

    options = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", "max_connections": 50}
    return Service(
        name="postgres",
        where=f"{HOST}:{port}, data in {data}",
        command=[str(server), "-D", str(data), *(f"--{key}={value}" for key, value in options.items())],
        environment=_environment(),
        folder=Path("/"),
        missing=missing,
        prepare=lambda: create(data, layout.secrets / "postgres-password"),
        user=server_user(),
    )


def create(data: Path, password: Path) -> None:
    """The database's files with both databases, once: they appear under their name when they are whole."""
    if data.exists():
        return
    new = data.with_name(f"{data.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    key = data.with_name(f"{data.name}.password")  # initdb reads it as the server's user
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_text(password.read_text())
    user = server_user()
    if user is not None:
        shutil.chown(new, user)
        shutil.chown(key, user)
    try:
        made = [str(program("initdb")), "-D", str(new), f"--username={USER}", f"--pwfile={key}"]
        _run([*made, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"], user)
        _run([str(program("postgres")), "--single", "-D", str(new), "postgres"], user, DATABASES.read_bytes())
    finally:
        key.unlink()
    new.rename(data)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def _run(command: list[str], user: str | None, given: bytes = b"") -> None:
    ended = subprocess.run(
        command, input=given, capture_output=True, check=False, cwd="/", env=_environment(), **rights_of(user)
    )
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    if ended.returncode or "ERROR:" in said or "FATAL:" in said:
        raise UserError(f"{Path(command[0]).name} failed: {said.strip()[-1000:]}", where="postgres")
