#!/usr/bin/env bash
# Start an MLflow server for runs, artifacts and the model registry; it stays in front. Clients set LUNGTUNE_MLFLOW=http://HOST:PORT.
#
# More arguments go to `mlflow server`. From the environment:
#   LUNGTUNE_HOME                 where runs and artifacts lie unless the next two say otherwise (./lungtune-home)
#   MLFLOW_BACKEND                database URI (sqlite in LUNGTUNE_HOME); a PostgreSQL password belongs into PGPASSFILE
#   MLFLOW_ARTIFACTS              folder or s3://bucket/prefix (mlflow-artifacts in LUNGTUNE_HOME)
#   MLFLOW_BIND, MLFLOW_PORT      where to listen (127.0.0.1, 5000)
#   MLFLOW_SERVER_ALLOWED_HOSTS   names under which clients may call it, with their ports: `mlflow:5000,localhost:5000`
#   MLFLOW_PASSWORD_FILE          a file with a password: with it, clients must set MLFLOW_TRACKING_USERNAME and _PASSWORD
#   MLFLOW_USER                   the administrator whose password it is (lungtune); it holds from the first start on
#   MLFLOW_AUTH_DATABASE          database URI of users (sqlite in LUNGTUNE_HOME); it may be MLFLOW_BACKEND's
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$here/../.venv/bin/mlflow" ] && PATH="$here/../.venv/bin:$PATH"

home=${LUNGTUNE_HOME:-lungtune-home}
mkdir -p "$home"
home=$(cd "$home" && pwd)
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"  # 0.5 GB instead of 2.4

options=()
if [ -n "${MLFLOW_PASSWORD_FILE:-}" ]; then
  [ -s "$MLFLOW_PASSWORD_FILE" ] || { echo "no password in $MLFLOW_PASSWORD_FILE" >&2; exit 2; }
  MLFLOW_AUTH_ADMIN_USERNAME=${MLFLOW_USER:-lungtune}
  MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$MLFLOW_PASSWORD_FILE")
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')  # of the forms in the browser
  MLFLOW_AUTH_CONFIG_PATH="$home/mlflow-auth.ini"
  export MLFLOW_AUTH_ADMIN_USERNAME MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_CONFIG_PATH
  cat > "$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
auth_cache_ttl_seconds = 60
database_uri = ${MLFLOW_AUTH_DATABASE:-sqlite:///$home/mlflow-auth.db}
INI
  options+=(--app-name basic-auth)
fi

exec mlflow server --workers 1 --host "${MLFLOW_BIND:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" \
  --backend-store-uri "${MLFLOW_BACKEND:-sqlite:///$home/mlflow.db}" \
  --artifacts-destination "${MLFLOW_ARTIFACTS:-$home/mlflow-artifacts}" ${options[@]+"${options[@]}"} "$@"
