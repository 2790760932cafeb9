#!/usr/bin/env bash
# Draw the secrets of the services, each into a file for its owner alone; those that are there stay as they are.
#   make-secrets.sh [FOLDER [POSTGRES_HOST]]     (infra/secrets and postgres, as compose.yaml wants them)
set -euo pipefail
umask 077
folder=${1:-"$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets"}
host=${2:-postgres}
mkdir -p "$folder"
cd "$folder"
echo '*' > .gitignore

draw() { python3 -c "import secrets; print(secrets.token_hex($1), end='')"; }

[ -s ray-token ] || draw 32 > ray-token
[ -s mlflow-password ] || draw 24 > mlflow-password
[ -s postgres-password ] || draw 24 > postgres-password
[ -s pgpass ] || echo "$host:*:*:lungtune:$(cat postgres-password)" > pgpass
if [ ! -s s3.json ]; then
  key=$(draw 10)
  secret=$(draw 20)
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" > aws-credentials
  printf '{"identities": [{"name": "lungtune", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' \
    "$key" "$secret" > s3.json
fi
echo "$folder: $(echo *)"
