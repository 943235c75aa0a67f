"""Lengths of many matrices, from their headers alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import IO

from asr_bn.kaldi_io.matrix import read_matrix_shape
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.rxfilename import is_pipe, resolve, split_offset
from asr_bn.kaldi_io.utterance_id import prefix_errors

_GZIP_MAGIC = b"\x1f\x8b"


def count_frames(scp: MatrixScp, utt_ids: Iterable[str], root: Path | None = None) -> dict[str, int]:
    """Rows of each of ``utt_ids``; an archive is opened once for all that follow each other in it.

    Args:
        root: where relative names in ``scp`` start from, as it was given to ``MatrixScp``.

    Raises:
        KeyError: no such utterance.
        ValueError: an archive is missing, cut short or corrupt there.
    """
    counts: dict[str, int] = {}
    with _OpenArchive(root) as archive:
        for utt_id in utt_ids:
            num_rows = archive.num_rows(utt_id, scp.rxfilename(utt_id))
            counts[utt_id] = scp.num_frames(utt_id) if num_rows is None else num_rows
    return counts


class _OpenArchive:
    """The archive that was read last, kept open as long as the next entry is in it too."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._name: str | None = None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> "_OpenArchive":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def num_rows(self, utt_id: str, rxfilename: str) -> int | None:
        """Rows of the matrix; None where it is not at an offset of a plain file."""
        name, offset = split_offset(rxfilename)
        if not offset or is_pipe(rxfilename):
            return None
        with prefix_errors(utt_id):
            if name != self._name:
                self._open(name)
            if self._stream is None:
                return None
            self._stream.seek(offset)
            return read_matrix_shape(self._stream, f"{utt_id}: {rxfilename}")[0]

    def _open(self, name: str) -> None:
        self.__exit__()
        self._name, self._stream = name, None
        path = resolve(name, self._root)
        if path.is_file():
            # A small buffer: a header has some twenty bytes, and the next one is far away.
            stream = path.open("rb", buffering=512)
            if stream.read(2) != _GZIP_MAGIC:
                self._stream = stream
            else:
                stream.close()
