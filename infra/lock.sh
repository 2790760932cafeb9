#!/usr/bin/env bash
# Write requirements.lock anew: install what pyproject.toml asks for into a fresh environment, and note every version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3.11}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --upgrade pip
"$environment/bin/python" -m pip install --quiet "setuptools>=77,<82" wheel
"$environment/bin/python" -m pip install --quiet ".[dev,services]"
{
  echo "# Every version that lungtune is built and tested with (Python 3.11, Linux). Made by infra/lock.sh."
  "$environment/bin/python" -m pip freeze --all --exclude pip --exclude lungtune | grep -v ' @ ' | LC_ALL=C sort --ignore-case
} > requirements.lock
