#!/usr/bin/env bash
# What cron and systemd run every night: verify the registered models' Scores, build the board anew, say what changed.
#   nightly.sh [ENVIRONMENT_FILE]
# The file is sourced: `make services` writes one, a cluster's holds the variables of docs/cluster.md. It must be readable by
# its owner alone. Two nights never run at once; the exit code is that of `lungtune nightly`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ $# -gt 0 ]; then
  # shellcheck source=/dev/null
  source "$1"
fi
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
home=${LUNGTUNE_HOME:-lungtune-home}
mkdir -p "$home"
exec flock --nonblock --conflict-exit-code 75 "$home/nightly.lock" python -m orchestrator nightly
