# Source this: `ensure_env EXTRA [EXTRA ...]` puts a Python that has asr_bn and its extras on PATH.
#
# A Python on PATH that can import what is needed is used as it is.  Otherwise a virtual environment is made
# in .venv (plain venv and pip, versions from constraints.txt) and used from then on.

asr_bn_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

ensure_env() {
    local modules="asr_bn onnx onnxruntime torch typer fastapi orjson prometheus_client soxr lazy_loader" extra
    for extra in "$@"; do
        case "$extra" in
            mini) modules+=" espeakng_loader kaldi_hmm_gmm" ;;
            search) modules+=" optuna filelock" ;;
            decode) modules+=" kaldifst kaldilm kaldialign" ;;
            dev) modules+=" pytest xdist hypothesis kaldiio kaldi_native_io kaldi_decoder tritonclient schemathesis selenium httpx2 psutil optuna filelock tensorboard importlinter sphinx myst_parser furo" ;;
        esac
    done
    if [ -x "$asr_bn_root/.venv/bin/python" ]; then
        PATH="$asr_bn_root/.venv/bin:$PATH"
    fi
    if ! _has_modules python3 $modules; then
        _make_venv "$(IFS=,; echo "$*")"
        PATH="$asr_bn_root/.venv/bin:$PATH"
    fi
    export PATH
}

# Looks modules up without importing them: importing all takes seconds.
_has_modules() {
    "$1" - "${@:2}" <<'PY' 2> /dev/null
import importlib.util, sys
sys.path.pop(0)  # not the current folder: only what is installed counts
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))
PY
}

_make_venv() {
    local python log="$asr_bn_root/.venv/install.log"
    python="$(find_python)"
    echo "Setting up $asr_bn_root/.venv (once; some minutes, some gigabytes with PyTorch for CUDA) ..." >&2
    "$python" -m venv "$asr_bn_root/.venv"
    if ! "$asr_bn_root/.venv/bin/pip" install --disable-pip-version-check \
        -c "$asr_bn_root/constraints.txt" -e "$asr_bn_root[$1]" > "$log" 2>&1; then
        grep -v '^WARNING' "$log" | tail -n 15 >&2
        echo "error: pip could not install asr_bn; the whole output is in $log" >&2
        return 1
    fi
}

find_python() {
    local candidate
    for candidate in "$asr_bn_root/.venv/bin/python3" python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python from 3.11 to 3.14 (with venv) was found on PATH" >&2
    return 1
}
