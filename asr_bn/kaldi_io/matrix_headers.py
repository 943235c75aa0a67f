"""Lengths of many matrices, from their headers alone."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from asr_bn.kaldi_io.matrix import read_matrix_shape
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.rxfilename import GZIP_MAGIC, resolve, split_offset
from asr_bn.kaldi_io.utterance_id import prefix_errors


def count_frames(scp: MatrixScp, utt_ids: Iterable[str], root: Path | None = None) -> dict[str, int]:
    """Count the rows of each of ``utt_ids``; consecutive ones of one archive open it once.

    Args:
        root: where relative names in ``scp`` start from, as it was given to ``MatrixScp``.

    Raises:
        KeyError: no such utterance.
        ValueError: an archive is missing, cut short or corrupt there.
    """
    counts: dict[str, int] = {}
    opened, stream = "", None
    with ExitStack() as files:
        for utt_id in utt_ids:
            rxfilename = scp.rxfilename(utt_id)
            name, offset = split_offset(rxfilename)
            with prefix_errors(utt_id):
                if offset and name != opened:
                    files.close()
                    opened, stream = name, _open_plain(resolve(name, root), files)
                if not offset or stream is None:
                    counts[utt_id] = scp.num_frames(utt_id)
                else:
                    stream.seek(offset)
                    counts[utt_id] = read_matrix_shape(stream, f"{utt_id}: {rxfilename}")[0]
    return counts


def _open_plain(path: Path, files: ExitStack) -> IO[bytes] | None:
    """Open an archive until ``files`` closes; None if it is no regular file, or gzipped."""
    if not path.is_file():
        return None
    # A small buffer: a header has some twenty bytes, and the next one is far away.
    stream = files.enter_context(path.open("rb", buffering=512))
    return None if stream.read(2) == GZIP_MAGIC else stream
