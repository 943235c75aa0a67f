"""The paper's language models: Table 2 and Figure 2, and with --search the appendix.

    python recipes/ptb/run.py                         the small pair, on the Penn Treebank if it can be had
    python recipes/ptb/run.py --data DIR              on the text in DIR
    python recipes/ptb/run.py --size medium large --device cuda
    python recipes/ptb/run.py --search 52             the appendix's random search (characters)

Any Python runs this file: where asr_bn is missing it sets up the environment of the speech recipe and starts
itself there.  After a kill, run the same command again: it goes on where it was.
"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_STARTED = "ASR_BN_PTB_STARTED"


def enter_environment() -> None:
    """Start this file again in the repository's environment, made by ``setup_env.sh`` when it is missing."""
    extras = ["search"] if any(argument.startswith("--search") for argument in sys.argv) else []
    needed = ["asr_bn", "torch", "typer", "onnxruntime", *(["optuna"] if extras else [])]
    if os.environ.get(_STARTED) or all(importlib.util.find_spec(name) for name in needed):
        return
    script = f'. "{ROOT}/scripts/setup_env.sh" && ensure_env {" ".join(extras)} && exec python3 "$0" "$@"'
    os.environ[_STARTED] = "1"
    os.execvp("bash", ["bash", "-c", script, __file__, *sys.argv[1:]])


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # this repository's recipes, whatever the current folder is
    enter_environment()
    from recipes.ptb.local.command import main

    main()
