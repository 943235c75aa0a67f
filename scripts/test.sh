#!/usr/bin/env bash
# Run the tests; sets up .venv first where it is needed.  Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup_env.sh
ensure_env mini decode dev
exec python3 -m pytest "$@"
