#!/usr/bin/env bash
# What every container of the image runs first: MLflow's clients take their password from the environment alone, so that it
# is read here from the file that MLFLOW_PASSWORD_FILE names. Then the command itself.
set -euo pipefail
if [ -n "${MLFLOW_PASSWORD_FILE:-}" ] && [ -z "${MLFLOW_TRACKING_PASSWORD:-}" ]; then
  [ -s "$MLFLOW_PASSWORD_FILE" ] || { echo "no password in $MLFLOW_PASSWORD_FILE" >&2; exit 2; }
  MLFLOW_TRACKING_PASSWORD=$(cat "$MLFLOW_PASSWORD_FILE")
  export MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_USERNAME="${MLFLOW_TRACKING_USERNAME:-lungtune}"
fi
exec "$@"
