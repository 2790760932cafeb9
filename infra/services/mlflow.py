"""MLflow's server over PostgreSQL and S3, for those who name the user and the password."""

from __future__ import annotations

import base64

from infra.services.layout import BUCKET, INFRA, USER, Layout
from infra.services.ports import HOST
from infra.services.service import Service, http


def service(layout: Layout) -> Service:
    port, password = layout.ports["mlflow"], layout.secrets / "mlflow-password"
    database = f"postgresql+psycopg2://{USER}@{HOST}:{layout.ports['postgres']}/mlflow"
    environment = layout.environment() | {
        "MLFLOW_PORT": str(port),
        "MLFLOW_BACKEND": database,
        "MLFLOW_ARTIFACTS": f"s3://{BUCKET}/mlflow",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
        "MLFLOW_USER": USER,
        "MLFLOW_PASSWORD_FILE": str(password),
        "MLFLOW_AUTH_DATABASE": database,
    }

    def missing() -> str:
        url = f"http://{HOST}:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        key = base64.b64encode(f"{USER}:{password.read_text().strip()}".encode()).decode()
        status, body = http(url, {"Authorization": f"Basic {key}"})
        if status != 200:
            return f"{status} {body.decode(errors='replace')[:200]}"
        return "" if http(url)[0] == 401 else "it answers without a password"

    return Service(
        name="mlflow",
        where=f"http://{HOST}:{port}, user {USER}, password in {password}",
        command=[str(INFRA / "start-mlflow.sh")],
        environment=environment,
        folder=layout.folder,
        missing=missing,
        after=("postgres", "s3"),
    )
