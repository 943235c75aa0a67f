"""Make the corpus: ``python -m recipes.mini.make_data OUT [--minutes 30] [--dev-minutes 4] [--seed 1]``.

It writes Kaldi data directories ``OUT/data/train`` and ``OUT/data/dev``, the audio under ``OUT/wav``, and
the dictionary and the grammar under ``OUT/data/local``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from asr_bn.system.stamps import is_done, mark_done
from recipes.command_line import exit_status
from recipes.mini.sources import made_from, require


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the corpus; return 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini.make_data", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training speech (%(default)s)")
    parser.add_argument("--dev-minutes", type=float, default=4.0, help="of development speech (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of sentences and voices (%(default)s)")
    parser.add_argument("--num-jobs", type=int, default=min(4, os.cpu_count() or 1))
    options = vars(parser.parse_args(arguments))
    return exit_status("make_data", lambda: make_data(**options))


def make_data(out: Path, minutes: float, dev_minutes: float, seed: int, num_jobs: int = 2) -> None:
    """Synthesize and write everything, unless it is already there.

    Raises:
        ValueError: an amount of speech is not positive, or ``espeakng-loader`` is not installed.
    """
    if not (minutes > 0 and dev_minutes > 0):
        raise ValueError(f"--minutes and --dev-minutes must be positive, got {minutes:g} and {dev_minutes:g}")
    stamp = out / "data" / ".made"
    wav_dir = str((out / "wav").resolve())  # in wav.scp: data that were moved are made again
    key = made_from({"minutes": minutes, "dev_minutes": dev_minutes, "seed": seed, "wav_dir": wav_dir})
    if is_done(stamp, key, [out / "data" / name / "wav.scp" for name in ("train", "dev")]):
        return
    require("espeakng_loader")
    stamp.unlink(missing_ok=True)
    from recipes.mini.corpus import synthesize_corpus  # heavy: not where all is done

    synthesize_corpus(out, {"train": minutes, "dev": dev_minutes}, seed, num_jobs)
    mark_done(stamp, key)


if __name__ == "__main__":
    sys.exit(main())
