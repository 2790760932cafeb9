#!/usr/bin/env bash
# Draw the secrets that compose.yaml mounts, into infra/secrets; those that are there stay as they are.
set -euo pipefail
umask 077
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets"
mkdir -p "$folder"
cd "$folder"
echo '*' > .gitignore

draw() { python3 -c "import secrets; print(secrets.token_hex($1), end='')"; }

[ -s ray-token ] || draw 32 > ray-token
if [ ! -s postgres-password ]; then
  draw 24 > postgres-password
  echo "postgres:5432:*:lungtune:$(cat postgres-password)" > pgpass
fi
if [ ! -s s3.json ]; then
  key=$(draw 10) secret=$(draw 20)
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" > aws-credentials
  printf '{"identities": [{"name": "lungtune", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' \
    "$key" "$secret" > s3.json
fi
echo "$folder: $(ls | tr '\n' ' ')"
