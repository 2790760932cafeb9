#!/usr/bin/env bash
# Run a command as a Ray job with this folder's code, show its log, and end with its exit code:
#   infra/submit.sh python -m orchestrator sweep search_spaces/icbhi_cpu.yaml
#
# `ray job submit` does the same but ends with 1 for every failure, and with 0 for a job that was stopped. From the environment:
#   RAY_API_SERVER_ADDRESS   the head's dashboard (http://127.0.0.1:8265)
#   RAY_AUTH_TOKEN_PATH      the cluster's token (~/.ray/auth_token)
#   SUBMISSION_ID            name of the job; the same one is refused twice
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: submit.sh COMMAND [ARGUMENTS]" >&2; exit 2; }
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
unset RAY_ADDRESS  # names the cluster for programs; it would go before the dashboard's address
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/ray ] && PATH="$PWD/.venv/bin:$PATH"
[ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "no token at $RAY_AUTH_TOKEN_PATH: copy the head's there" >&2; exit 2; }

job=${SUBMISSION_ID:-lungtune-$(date -u +%Y%m%d-%H%M%S)-$$}
commit=${LUNGTUNE_GIT_COMMIT:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
for _ in {1..12}; do
  submitted=0
  { ray job submit --working-dir . --submission-id "$job" \
    --runtime-env-json "{\"env_vars\": {\"LUNGTUNE_GIT_COMMIT\": \"$commit\"}}" -- "$@" \
    2>&1 1>&3 | tee "$errors" >&2; } 3>&1 || submitted=$?  # stderr is kept as well as shown
  grep -q "No available agent" "$errors" || break
  echo "the head answers, but is not ready for jobs yet: trying again" >&2
  sleep 5
done

timeout 60 python3 - "$job" "$submitted" <<'PYTHON'
import os
import sys

from ray.job_submission import JobStatus, JobSubmissionClient

job, submitted = sys.argv[1], int(sys.argv[2])
try:
    details = JobSubmissionClient(os.environ["RAY_API_SERVER_ADDRESS"]).get_job_info(job)
except (RuntimeError, ConnectionError) as error:
    sys.exit(submitted or f"{job}: how it ended is not known: {error}")
print(f"{job}: {details.status}, exit code {details.driver_exit_code}", file=sys.stderr)
if details.status == JobStatus.SUCCEEDED:
    sys.exit(0)
sys.exit(details.driver_exit_code or submitted or 1)
PYTHON
