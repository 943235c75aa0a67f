"""Tables of matrices: archives and script files, read in order or by utterance, and written."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asr_bn.kaldi_io.binary import BINARY_MARK, read_key
from asr_bn.kaldi_io.compressed_matrix import encode_compressed
from asr_bn.kaldi_io.matrix import (
    Matrix,
    encode_header,
    encode_matrix,
    format_matrix,
    format_rows,
    read_matrix,
    read_matrix_shape,
)
from asr_bn.kaldi_io.plain_text import WHITESPACE, parse_int
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, open_input
from asr_bn.kaldi_io.script_file import read_each, read_table, script_of
from asr_bn.kaldi_io.specifiers import parse_rspecifier, parse_wspecifier
from asr_bn.kaldi_io.utterance_id import check_id, prefix_errors
from asr_bn.kaldi_io.wxfilename import open_table

_RANGE = re.compile(r"\[([-0-9:,\s]*)\]$", re.ASCII)
_ROW_TOLERANCE = 3  # Kaldi's length_tolerance: two frames at the edges, one of rounded times


class MatrixScp(Mapping[str, Matrix]):
    """The matrices of a script file by utterance, in file order; only its lines are kept in memory.

    Values may carry Kaldi's range, rows then columns, ends included: ``feats.ark:12[0:9]``, ``[0:9,0:12]``.
    Rows may end up to three past the matrix's last one: fewer are then given, with a note for each utterance.

    Args:
        path: the script file, or an rxfilename of one (``-``, ``command |``).
        root: where relative names in it start from (default: the current folder, as Kaldi).
        text_dtype: of matrices in text.

    Raises:
        ValueError: malformed script file.
    """

    def __init__(
        self,
        path: Path | str,
        root: Path | None = None,
        pipes: PipePolicy = DEFAULT_PIPES,
        text_dtype: DTypeLike = np.float32,
    ) -> None:
        self.path = path
        self._root = root
        self._pipes = pipes
        self._text_dtype = text_dtype
        self._rxfilenames = read_table(path, pipes=pipes)
        self._said: set[str] = set()

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self._rxfilenames

    def __len__(self) -> int:
        return len(self._rxfilenames)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rxfilenames)

    def __getitem__(self, utt_id: str) -> Matrix:
        """Read the matrix of ``utt_id``, ``[num_frames, feature_dim]``.

        Raises:
            KeyError: no such utterance.
            ValueError: the archive is missing, cut short or corrupt there.
        """
        rxfilename, rows_cols = _split_range(self._rxfilenames[utt_id])
        where = f"{utt_id}: {rxfilename}"
        with prefix_errors(utt_id), open_input(rxfilename, self._root, self._pipes) as stream:
            matrix = read_matrix(stream, where, self._text_dtype)
        if rows_cols is None:
            return matrix
        cut, num_missing = _cut(matrix, rows_cols, where)
        if num_missing and utt_id not in self._said:
            self._said.add(utt_id)
            print(f"{where}[{','.join(rows_cols)}]: ends {num_missing} rows past the matrix", file=sys.stderr)
        return cut

    def rxfilename(self, utt_id: str) -> str:
        """Return where the script file says that the matrix of ``utt_id`` is."""
        return self._rxfilenames[utt_id]

    def num_frames(self, utt_id: str) -> int:
        """Read the number of rows of ``utt_id``, from the header if the archive is binary."""
        rxfilename, rows_cols = _split_range(self._rxfilenames[utt_id])
        if rows_cols is not None:
            return len(self[utt_id])
        with prefix_errors(utt_id), open_input(rxfilename, self._root, self._pipes) as stream:
            return read_matrix_shape(stream, f"{utt_id}: {rxfilename}")[0]


def read_matrices(
    rspecifier: str | Path,
    root: Path | None = None,
    pipes: PipePolicy = DEFAULT_PIPES,
    text_dtype: DTypeLike = np.float32,
) -> Iterator[tuple[str, Matrix]]:
    """Yield utterance ids and matrices ``[num_frames, feature_dim]`` in file order, one in memory at a time.

    ``rspecifier`` is ``ark:...`` or ``scp:...`` (files, gzip files, pipes, ``-``), or a bare path.
    Matrices in text have ``text_dtype``.

    Raises:
        OSError: a file is missing.
        ValueError: cut short or corrupt; the message names the utterance and the file.
    """
    source = parse_rspecifier(rspecifier)
    if source.is_script:
        scp = MatrixScp(script_of(source), root, pipes, text_dtype)
        yield from read_each(source, scp, scp.__getitem__)
        return
    with open_input(source.rxfilename, root, pipes) as stream:
        while (found := read_key(stream, source.rxfilename)) is not None:
            yield found[0], read_matrix(stream, f"{found[0]}: {source.rxfilename}", text_dtype)


class MatrixWriter:
    """Writes an archive, and its script file, which get their names only when all is written.

    Args:
        wspecifier: ``ark:A``, ``ark,t:A``, ``ark,scp:A,S`` or a bare path; ``A`` and ``S`` may be
            ``| command``, ``-`` is standard output.
        compress: Kaldi's compressed form (``compression_method``: 1 automatic, 2, 3 or 5), not plain floats.
    """

    def __init__(self, wspecifier: str | Path, compress: bool = False, compression_method: int = 1) -> None:
        self._target = parse_wspecifier(wspecifier)
        if compress and self._target.text:
            raise ValueError(f"{wspecifier}: an archive is either text or compressed, not both")
        self._compression_method = compression_method if compress else None
        self._files = ExitStack()
        self._archive: IO[bytes] | None = None
        self._script: IO[bytes] | None = None
        self._position = 0
        self._written: set[str] = set()

    def __enter__(self) -> "MatrixWriter":
        self._archive, self._script = self._files.enter_context(open_table(self._target))
        return self

    def write(self, utt_id: str, matrix: NDArray[np.floating]) -> None:
        """Append ``matrix`` ``[num_frames, feature_dim]``.

        Raises:
            ValueError: an id that is empty, has spaces or was written before; a matrix that is not
                two-dimensional or cannot be compressed.
        """
        check_id(utt_id, self._written, self._target.archive)
        data = encode_table_matrix(utt_id, matrix, self._target.text, self._compression_method)
        self._begin(utt_id)
        self._append(data)

    def write_blocks(self, utt_id: str, num_frames: int, blocks: Iterable[NDArray[np.floating]]) -> None:
        """Append a float32 matrix of ``num_frames`` rows from blocks of rows, one in memory at a time.

        Raises:
            ValueError: as `write`; blocks of unlike widths, or with another number of rows in all; an
                archive that is compressed, since Kaldi's codes need the whole matrix first.
        """
        if self._compression_method is not None:
            raise ValueError(
                f"{utt_id}: {num_frames} frames are written block by block, which Kaldi's compressed form"
                " does not allow; leave out --compress"
            )
        check_id(utt_id, self._written, self._target.archive)
        num_written, width, is_text = 0, 0, self._target.text
        for block in blocks:
            if not num_written:
                width = block.shape[1]
                self._begin(utt_id)
                self._append(b" [" if is_text else encode_header(num_frames, width))
            num_written += len(block)
            if block.shape[1] != width or num_written > num_frames:
                break
            self._append(
                format_rows(block).encode() if is_text else block.astype("<f4", copy=False).tobytes()
            )
        if num_written != num_frames or not width:
            raise ValueError(f"{utt_id}: blocks that do not make a matrix of {num_frames} rows")
        self._append(b"]\n" if is_text else b"")

    def _begin(self, utt_id: str) -> None:
        self._append(f"{utt_id} ".encode())
        if self._script is not None:
            self._script.write(f"{utt_id} {self._target.archive}:{self._position}\n".encode())

    def _append(self, data: bytes) -> None:
        if self._archive is None:
            raise ValueError(f"{self._target.archive}: not open; use MatrixWriter in a with statement")
        self._archive.write(data)
        self._position += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive = None
        self._files.__exit__(kind, error, trace)


def encode_table_matrix(
    utt_id: str, matrix: NDArray[np.floating], text: bool = False, compression_method: int | None = None
) -> bytes:
    """Encode an archive's entry without its utterance id; ``compression_method`` None is plain floats."""
    if matrix.ndim != 2:
        raise ValueError(f"{utt_id}: expected a matrix, found an array of {matrix.ndim} dimensions")
    if text:
        return format_matrix(matrix).encode()
    if compression_method is None:
        return encode_matrix(matrix)
    with prefix_errors(utt_id):
        encoded = encode_compressed(matrix.astype(np.float32, copy=False), compression_method)
    return BINARY_MARK + encoded


def _split_range(value: str) -> tuple[str, list[str] | None]:
    match = _RANGE.search(value)
    if match is None:
        return value, None
    return value[: match.start()].rstrip(WHITESPACE), match.group(1).split(",")


def _cut(matrix: Matrix, rows_cols: list[str], where: str) -> tuple[Matrix, int]:
    """Cut out the range; also return how many of its rows are missing (``ParseMatrixRangeSpecifier``)."""
    if len(rows_cols) > 2:
        raise ValueError(f"{where}: expected a range like [0:9] or [0:9,0:12], found {rows_cols}")
    tolerances = (_ROW_TOLERANCE, 0)
    slices = [
        _parse_range(text, size, tolerance, where)
        for text, size, tolerance in zip(rows_cols, matrix.shape, tolerances, strict=False)
    ]
    return matrix[tuple(slices)], max(0, (slices[0].stop or 0) - len(matrix))


def _parse_range(text: str, size: int, tolerance: int, where: str) -> slice:
    if text.strip(WHITESPACE) in ("", ":"):
        return slice(None)
    first, _, last = text.partition(":")
    try:
        start, stop = parse_int(first), parse_int(last) + 1
    except ValueError as error:
        raise ValueError(f"{where}: expected a range first:last, found {text!r}") from error
    if not 0 <= start < stop or start >= size or stop > size + tolerance:
        raise ValueError(f"{where}: the range {text} does not fit in {size} rows or columns")
    return slice(start, stop)
