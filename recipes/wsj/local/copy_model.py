"""Copies the model of an alignment folder, and its phones.txt where there is one, beside the pdf-ids.

    python -m recipes.wsj.local.copy_model ALI_DIR [OUT_DIR]

The model may have any name that ``asr-bn alignments`` takes (``final.mdl.gz``, ``final.alimdl``, ...); the
copy is an unpacked ``final.mdl``.  Without ``OUT_DIR`` only whether there is a model is checked.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr_bn.cli.errors import describe
from asr_bn.data.alignments import find_model
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.system.files import write_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and copy; 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(description="Copy the model of an alignment folder.")
    parser.add_argument("ali_dir", type=Path)
    parser.add_argument("out_dir", type=Path, nargs="?")
    options = parser.parse_args(arguments)
    try:
        copy_model(options.ali_dir, options.out_dir)
    except (ValueError, OSError) as error:
        print(f"run.sh: error: {describe(error)}", file=sys.stderr)
        return 1
    return 0


def copy_model(ali_dir: Path, out_dir: Path | None) -> None:
    """Write ``out_dir/final.mdl`` and ``phones.txt``; a ``phones.txt`` of an earlier run does not stay alone.

    Raises:
        ValueError: ``ali_dir`` has no model, or it is damaged.
    """
    model, phones = find_model(ali_dir), ali_dir / "phones.txt"
    if out_dir is None:
        return
    with open_input(str(model)) as stream:
        write_bytes(out_dir / "final.mdl", stream.read())
    if phones.is_file():
        write_bytes(out_dir / "phones.txt", phones.read_bytes())
    else:
        (out_dir / "phones.txt").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
