"""Copies the model of an alignment folder, and its phones.txt where there is one, beside the pdf-ids.

    python -m recipes.wsj.local.copy_model ALI_DIR [OUT_DIR]

The model may have any name that ``asr-bn alignments`` takes (``final.mdl.gz``, ``final.alimdl``, ...); the
copy is an unpacked ``final.mdl``.  Without ``OUT_DIR`` only whether there is a model is checked.
"""

import sys
from pathlib import Path

from asr_bn.data.alignments import find_model
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.system.files import write_bytes
from recipes.command_line import exit_status


def copy_model(ali_dir: Path, out_dir: Path | None = None) -> None:
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
    sys.exit(exit_status("run.sh: error", lambda: copy_model(*map(Path, sys.argv[1:]))))
