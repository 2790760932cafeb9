#!/usr/bin/env bash
# Start an MLflow server for runs, artifacts and the model registry; it stays in front. Clients set LUNGTUNE_MLFLOW=http://HOST:PORT.
#
# More arguments go to `mlflow server`. From the environment:
#   LUNGTUNE_HOME                 where runs and artifacts lie unless the next two say otherwise (./lungtune-home)
#   MLFLOW_BACKEND                database URI (sqlite in LUNGTUNE_HOME); a PostgreSQL password belongs into PGPASSFILE
#   MLFLOW_ARTIFACTS              folder or s3://bucket/prefix (mlflow-artifacts in LUNGTUNE_HOME)
#   MLFLOW_BIND, MLFLOW_PORT      where to listen (127.0.0.1, 5000)
#   MLFLOW_SERVER_ALLOWED_HOSTS   names under which clients may call it, with their ports: `mlflow:5000,localhost:5000`
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$here/../.venv/bin/mlflow" ] && PATH="$here/../.venv/bin:$PATH"

home=${LUNGTUNE_HOME:-lungtune-home}
mkdir -p "$home"
home=$(cd "$home" && pwd)
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"  # 0.5 GB instead of 2.4

exec mlflow server --workers 1 --host "${MLFLOW_BIND:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" \
  --backend-store-uri "${MLFLOW_BACKEND:-sqlite:///$home/mlflow.db}" \
  --artifacts-destination "${MLFLOW_ARTIFACTS:-$home/mlflow-artifacts}" "$@"
