#!/usr/bin/env bash
# Start a node of a Ray cluster with token authentication: `start-ray.sh head`, or `start-ray.sh worker HOST:PORT`.
#
# More arguments go to `ray start`: --block (stay in front, stop by ^C), --num-gpus=4, --node-ip-address=IP.
# All nodes and clients need the same token file; a head makes one if there is none. From the environment:
#   RAY_AUTH_TOKEN_PATH   the token's file (~/.ray/auth_token)
#   RAY_PORT              the head's port (6379)
#   RAY_DASHBOARD_HOST    where the head listens for jobs (127.0.0.1; 0.0.0.0 lets other machines in)
#   RAY_DASHBOARD_PORT    the port for jobs (8265)
#   LUNGTUNE_HOME         where jobs leave what they make (lungtune-home in the working directory of this command)
# Jobs see the environment in which the head was started: set LUNGTUNE_* (absolute paths or URIs) and AWS_* before.
set -euo pipefail
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
export RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"
export RAY_worker_register_timeout_seconds="${RAY_worker_register_timeout_seconds:-600}"  # many starts on few cores
export LUNGTUNE_HOME="${LUNGTUNE_HOME:-$PWD/lungtune-home}"  # a job's own working directory does not last

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$here/../.venv/bin/ray" ] && PATH="$here/../.venv/bin:$PATH"
usage() { echo "usage: start-ray.sh head [RAY START OPTIONS] | start-ray.sh worker HOST:PORT [RAY START OPTIONS]" >&2; exit 2; }

case "${1:-}" in
  head)
    shift
    if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
      (umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")" &&
        python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
      echo "made a token: $RAY_AUTH_TOKEN_PATH (copy it to every node and client)" >&2
    fi
    exec ray start --head --port="${RAY_PORT:-6379}" --include-dashboard=true \
      --dashboard-host="${RAY_DASHBOARD_HOST:-127.0.0.1}" --dashboard-port="${RAY_DASHBOARD_PORT:-8265}" "$@"
    ;;
  worker)
    [ $# -ge 2 ] || usage
    if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
      echo "no token at $RAY_AUTH_TOKEN_PATH: copy the head's there, or name its place in RAY_AUTH_TOKEN_PATH" >&2
      exit 2
    fi
    address=$2
    shift 2
    exec ray start --address="$address" "$@"
    ;;
  *) usage ;;
esac
