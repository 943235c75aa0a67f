#!/usr/bin/env bash
# Run the tests under other kernels, and on other Pythons with the oldest and newest packages; print a table.
#
#   bash scripts/portability.sh [--kernels NAME ...] [--python VERSION ...] [--versions oldest|newest ...]
#                               [--out DIR] [--again] [--table] [-- PYTEST_ARGUMENT ...]
#
#   --kernels    which settings: aten-default aten-avx2 mkl-compatible mkl-avx2 onednn-sse41 onednn-avx2 threads-1
#                threads-4, or all (the default where no --python is given); with the packages of scripts/test.sh
#   --python     3.11 3.12 3.13 3.14, each in an environment of its own: from PATH, or one that pyenv has
#   --versions   the oldest packages that pyproject.toml allows and that have wheels, the newest, or both [both]
#   --out        where environments, logs and results are kept [exp/portability]
#   --again      run also what has a result already
#   -- ...       for pytest; `-n 2 --dist loadfile` runs two tests at a time
#   --table      run nothing, print the table of what there is
#
# A result is kept for each environment, so that the matrix can be run in parts and continued after a stop: one with a
# result of the same commit and arguments is not run again.  Ends with 1 where an environment failed.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD" out="exp/portability" again="" only_table=""
kernels=() pythons=() versions=()

fail() { echo "portability.sh: error: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case "$1" in
        --kernels|--python|--versions)
            option="$1"; shift
            [ $# -gt 0 ] && [[ "$1" != --* ]] || fail "$option needs a value"
            while [ $# -gt 0 ] && [[ "$1" != --* ]]; do
                case "$option" in
                    --kernels) kernels+=("$1") ;;
                    --python) pythons+=("$1") ;;
                    --versions) versions+=("$1") ;;
                esac
                shift
            done ;;
        --out) out="${2:?--out needs a folder}"; shift 2 ;;
        --again) again=yes; shift ;;
        --table) only_table=yes; shift ;;
        --) shift; break ;;
        -h|--help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) fail "$1: unknown option (see --help)" ;;
    esac
done

all_kernels="aten-default aten-avx2 mkl-compatible mkl-avx2 onednn-sse41 onednn-avx2 threads-1 threads-4"
[ ${#kernels[@]} -gt 0 ] || [ ${#pythons[@]} -gt 0 ] || kernels=(all)
[[ " ${kernels[*]} " != *" all "* ]] || read -ra kernels <<< "$all_kernels"
[ ${#versions[@]} -gt 0 ] || versions=(oldest newest)
for name in "${kernels[@]}"; do [[ " $all_kernels " == *" $name "* ]] || fail "--kernels $name: expected one of $all_kernels"; done
for name in "${pythons[@]}"; do [[ "$name" =~ ^3\.[0-9]+$ ]] || fail "--python $name: expected a version as 3.12"; done
for name in "${versions[@]}"; do [[ "$name" =~ ^(oldest|newest)$ ]] || fail "--versions $name: expected oldest or newest"; done

# The environment variables of a kernel setting.
settings() {
    case "$1" in
        aten-default) echo ATEN_CPU_CAPABILITY=default ;;
        aten-avx2) echo ATEN_CPU_CAPABILITY=avx2 ;;
        mkl-compatible) echo MKL_CBWR=COMPATIBLE ;;
        mkl-avx2) echo MKL_CBWR=AVX2 ;;
        onednn-sse41) echo ONEDNN_MAX_CPU_ISA=SSE41 ;;
        onednn-avx2) echo ONEDNN_MAX_CPU_ISA=AVX2 ;;
        threads-*) echo "OMP_NUM_THREADS=${1#threads-} MKL_NUM_THREADS=${1#threads-}" ;;
    esac
}

# run_tests NAME PYTHON PYTEST_ARGUMENT ...: unless there is a result of the same commit and arguments.
run_tests() {
    local name="$1" python="$2" folder="$out/$1" made_from variables code=0
    shift 2
    made_from="$(git rev-parse HEAD) $(git diff HEAD | sha256sum | cut -c1-16) $*"
    if [ -z "$again" ] && [ -f "$folder/tests.xml" ] && [ "$made_from" == "$(cat "$folder/made_from")" ]; then
        echo "$name: there is a result" >&2
        return
    fi
    mkdir -p "$folder"
    rm -f "$folder/tests.xml" "$folder/missing"
    echo "$name: running, $folder/log" >&2
    variables="$(settings "$name")"
    # shellcheck disable=SC2086
    env PYTHONPATH="$root" $variables "$python" -m pytest -q --junit-xml "$folder/tests.tmp.xml" "$@" \
        > "$folder/log" 2>&1 || code=$?
    tail -n 1 "$folder/log" >&2
    # 1: tests failed; 5: none was selected.  Anything else is no result.
    if [ "$code" -le 1 ] || [ "$code" -eq 5 ]; then
        echo "$made_from" > "$folder/made_from"
        mv "$folder/tests.tmp.xml" "$folder/tests.xml"
    fi
}

# A Python of a version, from PATH or pyenv.
python_of_version() {
    local candidate
    for candidate in "python$1" "$(pyenv root 2> /dev/null || true)/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# make_environment PYTHON FOLDER VERSIONS: packages from wheels alone; no setting of pip's finds the oldest, so uv does.
make_environment() {
    local python="$1" venv="$2" resolution=highest
    [ "$3" == newest ] || resolution=lowest-direct
    [ ! -f "$venv/.installed" ] || return 0
    rm -rf "$venv"
    # In a chain, since errors do not end a function that is tested by its caller.
    "$python" -m venv "$venv" \
        && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv \
        && "$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" --only-binary :all: \
            --resolution "$resolution" -r pyproject.toml --extra mini --extra decode --extra dev \
        && "$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" --no-deps -e . \
        && touch "$venv/.installed"
}

run_python() {
    local version="$1" which="$2" name="python-$1-$2" python
    shift 2
    mkdir -p "$out/$name"
    if ! python="$(python_of_version "$version")"; then
        echo "no Python $version on PATH or in pyenv" > "$out/$name/missing"
    elif ! make_environment "$python" "$out/venv-$version-$which" "$which" > "$out/$name/install.log" 2>&1; then
        echo "packages cannot be installed: $(grep -v '^WARNING' "$out/$name/install.log" | tail -n 1)" > "$out/$name/missing"
    else
        run_tests "$name" "$out/venv-$version-$which/bin/python" "$@"
        return
    fi
    echo "$name: $(cat "$out/$name/missing")" >&2
}

print_table() {
    python3 - "$out" <<'PY'
import sys
from pathlib import Path
from xml.etree import ElementTree

print("| environment | passed | failed | skipped | seconds |", "|---|---|---|---|---|", sep="\n")
wrong = 0
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if not path.name.startswith("venv-")):
    result, missing = folder / "tests.xml", folder / "missing"
    if missing.is_file():
        print(f"| {folder.name} | {missing.read_text().strip()} | | | |")
    elif result.is_file():
        suite = ElementTree.parse(result).getroot().find("testsuite").attrib
        total, skipped = int(suite["tests"]), int(suite["skipped"])
        failed = int(suite["failures"]) + int(suite["errors"])
        print(f"| {folder.name} | {total - failed - skipped} | {failed} | {skipped} | {float(suite['time']):.0f} |")
        wrong += failed
    else:
        print(f"| {folder.name} | no result, see {folder}/log | | | |")
        wrong += 1
sys.exit(wrong > 0)
PY
}

mkdir -p "$out"
out="$(cd "$out" && pwd)"
. scripts/setup_env.sh
if [ -z "$only_table" ]; then
    if [ ${#kernels[@]} -gt 0 ]; then ensure_env mini decode dev; fi
    for name in "${kernels[@]}"; do run_tests "$name" python3 "$@"; done
    for version in "${pythons[@]}"; do
        for which in "${versions[@]}"; do run_python "$version" "$which" "$@"; done
    done
fi
print_table
