"""Align the corpus: ``python -m recipes.mini.align OUT``, after ``make_data OUT``.

A flat-start monophone GMM system is trained on ``OUT/data/train``; it aligns both sets into
``OUT/exp/mono_ali_train`` and ``OUT/exp/mono_ali_dev``, as Kaldi's ``steps/align_si.sh`` leaves them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr_bn.system.stamps import is_done, mark_done
from recipes.command_line import exit_status
from recipes.mini import BOUNDARY_ACCURACY
from recipes.mini.sources import made_from, require

SETS = ("train", "dev")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and align; return 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini.align", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--num-gauss", type=int, default=1000, help="Gaussians in all (default: %(default)s)")
    options = parser.parse_args(arguments)
    return exit_status("align", lambda: align_corpus(options.out, options.num_gauss))


def align_corpus(out: Path, num_gauss: int = 1000) -> None:
    """Train and align, unless that is already done.

    Raises:
        OSError: ``make_data`` has not been run there.
        ValueError: ``kaldi-hmm-gmm`` is not installed, or an utterance cannot be aligned.
    """
    stamp = out / "exp" / ".mono_ali"
    key = made_from({"num_gauss": num_gauss}, [out / "data" / ".made"])
    outputs = [ali_dir(out, name) / BOUNDARY_ACCURACY for name in SETS]
    if not is_done(stamp, key, outputs):
        require("kaldi_hmm_gmm")
        stamp.unlink(missing_ok=True)
        from recipes.mini.gmm_system import train_and_align

        train_and_align(out / "data", {name: ali_dir(out, name) for name in SETS}, num_gauss)
        mark_done(stamp, key)


def ali_dir(out: Path, name: str) -> Path:
    """Return where the alignments of a set are."""
    return out / "exp" / f"mono_ali_{name}"


if __name__ == "__main__":
    sys.exit(main())
