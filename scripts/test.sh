#!/usr/bin/env bash
# Run the tests in parallel; sets up .venv first where it is needed.  Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup_env.sh
ensure_env mini decode dev
# A process for each core; fixtures of a file are made once. `-n 0` runs all in one process, as debuggers need it.
exec python3 -m pytest -n logical --maxprocesses 4 --dist loadfile "$@"
