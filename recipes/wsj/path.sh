# Source this: the environment of the recipe (Python with asr_bn, and this repository's recipes).
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/setup_env.sh"
ensure_env mini decode
export PYTHONPATH="$asr_bn_root${PYTHONPATH:+:$PYTHONPATH}"
# A progress bar every ten seconds where nobody watches.
[ -t 2 ] || export TQDM_MININTERVAL=10
