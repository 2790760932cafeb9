"""Where the services of one home keep their files, and the environment that leads a program to them."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.services.ports import HOST

INFRA = Path(__file__).resolve().parents[1]
ROOT = INFRA.parent
USER = "lungtune"  # of PostgreSQL and of MLflow
BUCKET = "lungtune"
OVERRIDING = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "PGPASSWORD",
    "RAY_AUTH_TOKEN",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_URI",
)
"""Variables that programs would believe rather than those of the environment file."""


@dataclass(frozen=True)
class Layout:
    """The files of one installation's services.

    Attributes:
        home: LUNGTUNE_HOME; the services' folder lies in it.
        ports: a port for every name of `ports.NAMES`.
    """

    home: Path
    ports: Mapping[str, int]

    @property
    def folder(self) -> Path:
        return self.home / "services"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def ray_folder(self) -> Path:
        """A folder for this user alone around Ray's session, outside of the home: its sockets' names must be short."""
        return Path(tempfile.gettempdir()) / f"lungtune-ray-{digest(self.home)}"

    def draw_secrets(self) -> None:
        """Passwords, keys and the token, in files for this user alone. Those that are there stay."""
        script = [str(INFRA / "make-secrets.sh"), str(self.secrets), HOST]
        subprocess.run(script, check=True, stdout=subprocess.DEVNULL, env=with_programs(os.environ))

    def variables(self) -> dict[str, str]:
        """What leads a program to the services. The only secret among them is MLflow's, which takes none by file."""
        s3, mlflow = self.ports["s3.port"], self.ports["mlflow"]
        return {
            "LUNGTUNE_HOME": str(self.home),
            "LUNGTUNE_STORE": f"s3://{BUCKET}/store",
            "LUNGTUNE_RESULTS": f"s3://{BUCKET}/results",
            "LUNGTUNE_MLFLOW": f"http://{HOST}:{mlflow}",
            "LUNGTUNE_OPTUNA": f"postgresql+psycopg2://{USER}@{HOST}:{self.ports['postgres']}/optuna",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{s3}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.secrets / "aws-credentials"),
            "PGPASSFILE": str(self.secrets / "pgpass"),
            "MLFLOW_TRACKING_USERNAME": USER,
            "RAY_ADDRESS": f"{HOST}:{self.ports['ray']}",
            "RAY_API_SERVER_ADDRESS": f"http://{HOST}:{self.ports['dashboard']}",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: 127.0.0.1 stays 127.0.0.1
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.secrets / "ray-token"),
        }

    def environment(self) -> dict[str, str]:
        """This process's environment, led to the services: for a driver, and for the nodes whose jobs are drivers."""
        clean = {name: value for name, value in os.environ.items() if name not in OVERRIDING}
        password = (self.secrets / "mlflow-password").read_text().strip()
        return with_programs({**clean, **self.variables(), "MLFLOW_TRACKING_PASSWORD": password})

    def write_env_file(self) -> None:
        """A file to be sourced by a shell. It names the files of the secrets, and holds none."""
        password = shlex.quote(str(self.secrets / "mlflow-password"))
        lines = [
            "# Leads a shell to the services of `make services`: source this file.",
            f"unset {' '.join(OVERRIDING)}",
            *(f"export {name}={shlex.quote(value)}" for name, value in self.variables().items()),
            f'export MLFLOW_TRACKING_PASSWORD="$(cat {password})"',
            f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
        ]
        new = self.env_file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text("\n".join(lines) + "\n")
        new.replace(self.env_file)


def with_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the programs beside this Python (ray, mlflow, weed) are found first."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"}


def digest(path: Path) -> str:
    """A short name for a folder."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]
