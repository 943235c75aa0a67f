"""One Kaldi matrix on a stream: plain, compressed and text forms (``src/matrix/kaldi-matrix.cc``)."""

from typing import IO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asr_bn.kaldi_io.binary import read_basic_int32, read_token
from asr_bn.kaldi_io.byte_stream import read_exact, read_until
from asr_bn.kaldi_io.compressed_matrix import TOKENS, read_compressed, read_shape
from asr_bn.kaldi_io.plain_text import parse_floats
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.arrays import Doubles, Floats

Matrix = Floats | Doubles
_DTYPES = {"FM": "<f4", "DM": "<f8"}
_BINARY_TOKENS = ", ".join([*_DTYPES, *TOKENS])
_MAX_TEXT = 1 << 30


def read_matrix(stream: IO[bytes], where: str, text_dtype: DTypeLike = np.float32) -> Matrix:
    """Read the matrix ``[num_rows, num_cols]`` at the stream's position, binary or text.

    Kaldi's ``DM`` gives float64, the text form ``text_dtype``, everything else float32.

    Raises:
        ValueError: cut short, corrupt, or not a matrix (``where`` names file and utterance).
    """
    first = stream.read(1)
    if first != b"\0":
        return _read_text(stream, first, where, text_dtype)
    _expect_binary_mark(stream, where)
    token = read_token(stream, where)
    if token in TOKENS:
        return read_compressed(stream, token, where)
    num_rows, num_cols = _plain_shape(stream, token, where)
    dtype = np.dtype(_DTYPES[token])
    data = read_exact(stream, dtype.itemsize * num_rows * num_cols, where)
    values: Matrix = np.frombuffer(bytearray(data), dtype=dtype).reshape(num_rows, num_cols)
    return values


def read_matrix_shape(stream: IO[bytes], where: str) -> tuple[int, int]:
    """Read rows and columns, from the header alone if the matrix is binary."""
    first = stream.read(1)
    if first != b"\0":
        num_rows, num_cols = _read_text(stream, first, where, np.float32).shape
        return num_rows, num_cols
    _expect_binary_mark(stream, where)
    token = read_token(stream, where)
    if token in TOKENS:
        return read_shape(stream, where)[2:]
    return _plain_shape(stream, token, where)


def encode_matrix(matrix: NDArray[np.floating]) -> bytes:
    """Encode the binary form with its ``\\0B`` mark: float64 as ``DM``, anything else as ``FM``."""
    token, dtype = ("DM", "<f8") if matrix.dtype == np.float64 else ("FM", "<f4")
    num_rows, num_cols = (0, 0) if matrix.size == 0 else matrix.shape
    values = np.ascontiguousarray(matrix, dtype=dtype)
    return b"".join((encode_header(num_rows, num_cols, token), values.data))


def encode_header(num_rows: int, num_cols: int, token: str = "FM") -> bytes:
    """Encode all that precedes the values of a plain matrix, float32 (``FM``) or float64 (``DM``)."""
    sizes = b"".join(b"\x04" + int(size).to_bytes(4, "little") for size in (num_rows, num_cols))
    return b"\0B" + token.encode() + b" " + sizes


def format_matrix(matrix: NDArray[np.floating]) -> str:
    """Format Kaldi's text form, with the digits needed to read the same values back."""
    return " [ ]\n" if matrix.size == 0 else f" [{format_rows(matrix)}]\n"


def format_rows(rows: NDArray[np.floating]) -> str:
    """Format the rows between the brackets of the text form."""
    return "".join("\n  " + " ".join(map(str, row)) + " " for row in rows)


def _expect_binary_mark(stream: IO[bytes], where: str) -> None:
    if stream.read(1) != b"B":
        raise ValueError(f"{where}: not a Kaldi matrix (no \\0B mark)")


def _plain_shape(stream: IO[bytes], token: str, where: str) -> tuple[int, int]:
    if token not in _DTYPES:
        raise ValueError(f"{where}: expected a matrix ({_BINARY_TOKENS}), found {token[:20]!r}")
    num_rows, num_cols = read_basic_int32(stream, where), read_basic_int32(stream, where)
    if num_rows < 0 or num_cols < 0 or (num_rows == 0) != (num_cols == 0):
        raise ValueError(f"{where}: corrupt: a matrix of {num_rows} x {num_cols}")
    return num_rows, num_cols


def _read_text(stream: IO[bytes], first: bytes, where: str, dtype: DTypeLike) -> Matrix:
    while first.isspace():
        first = stream.read(1)
    if first != b"[":
        raise ValueError(f"{where}: not a Kaldi matrix (neither \\0B nor '[' at its start)")
    after = stream.read(1)
    if after == b"]":
        return np.zeros((0, 0), dtype=dtype)
    if after and not after.isspace():
        raise ValueError(f"{where}: expected a blank after '[', found {after!r}")
    lines = read_until(stream, b"]", _MAX_TEXT, where).replace(b";", b"\n").split(b"\n")
    with prefix_errors(f"{where}: a text matrix"):
        rows = [np.array(parse_floats(line)) for line in lines if line.strip()]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{where}: a text matrix with rows of unlike lengths")
    values = np.stack(rows) if rows else np.zeros((0, 0))
    with np.errstate(over="ignore"):
        matrix: Matrix = values.astype(dtype)
    if np.isinf(matrix).any() and not _says_inf(lines, matrix):
        raise ValueError(f"{where}: a number in a text matrix is too large for {matrix.dtype}")
    return matrix


def _says_inf(lines: list[bytes], matrix: Matrix) -> bool:
    """Return whether every infinite value is spelled "inf", so that none is a number too large."""
    words = (word for line in lines for word in line.lower().split())
    return sum(b"inf" in word for word in words) == np.count_nonzero(np.isinf(matrix))
