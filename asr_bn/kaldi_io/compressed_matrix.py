"""Kaldi's compressed matrices, bit for bit (``src/matrix/compressed-matrix.cc``).

Three forms: ``CM `` (one byte a value, per-column percentiles), ``CM2 `` (two bytes), ``CM3 `` (one byte).
"""

import struct
from typing import IO, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.byte_stream import read_exact
from asr_bn.system.arrays import Floats

Codes = NDArray[np.int64]
TOKENS = {"CM": 1, "CM2": 2, "CM3": 3}
_HEADER = struct.Struct("<ffii")  # min_value, range, num_rows, num_cols
_MAX_ROWS_TWO_BYTE = 8  # kAutomaticMethod: up to here two bytes a value are smaller than column headers


def read_shape(stream: IO[bytes], where: str) -> tuple[float, float, int, int]:
    """Read the header: minimum, range, number of rows, number of columns."""
    min_value, value_range, num_rows, num_cols = _HEADER.unpack(read_exact(stream, _HEADER.size, where))
    if num_rows < 0 or num_cols < 0 or (num_rows == 0) != (num_cols == 0):
        raise ValueError(f"{where}: corrupt: a compressed matrix of {num_rows} x {num_cols}")
    if not (np.isfinite(min_value) and np.isfinite(value_range)):
        raise ValueError(f"{where}: corrupt: a compressed matrix from {min_value} over {value_range}")
    return min_value, value_range, num_rows, num_cols


def read_compressed(stream: IO[bytes], token: str, where: str) -> Floats:
    """Read the float32 matrix ``[num_rows, num_cols]`` behind its token ``CM``, ``CM2`` or ``CM3``.

    Raises:
        ValueError: corrupt header, or cut short.
    """
    min_value, value_range, num_rows, num_cols = read_shape(stream, where)
    if token == "CM":
        return _read_with_column_headers(stream, min_value, value_range, (num_rows, num_cols), where)
    width, levels = (2, 65535.0) if token == "CM2" else (1, 255.0)
    data = read_exact(stream, width * num_rows * num_cols, where)
    codes = np.frombuffer(data, dtype="<u2" if width == 2 else "u1").reshape(num_rows, num_cols)
    increment = np.float32(value_range * (1.0 / levels))  # a product of doubles, as in Kaldi
    return np.float32(min_value) + codes.astype(np.float32) * increment


def _read_with_column_headers(
    stream: IO[bytes], min_value: float, value_range: float, shape: tuple[int, int], where: str
) -> Floats:
    num_rows, num_cols = shape
    percentiles = np.frombuffer(read_exact(stream, 8 * num_cols, where), dtype="<u2").reshape(num_cols, 4)
    codes = np.frombuffer(read_exact(stream, num_rows * num_cols, where), dtype="u1")
    columns = codes.reshape(num_cols, num_rows)
    p0, p25, p75, p100 = (_from_uint16(percentiles[:, i : i + 1], min_value, value_range) for i in range(4))
    values = columns.astype(np.float32)
    low = p0 + ((p25 - p0) * values).astype(np.float64) * (1 / 64.0)
    middle = p25 + ((p75 - p25) * (values - 64)).astype(np.float64) * (1 / 128.0)
    high = p75 + ((p100 - p75) * (values - 192)).astype(np.float64) * (1 / 63.0)
    decoded = np.where(columns <= 64, low, np.where(columns <= 192, middle, high))
    return np.ascontiguousarray(decoded.T, dtype=np.float32)


def encode_compressed(matrix: Floats, method: int = 1) -> bytes:
    """Encode ``matrix`` ``[num_rows, num_cols]``: token, header and data.

    ``method`` is ``copy-feats --compression-method``: 1 automatic (by size), 2 one byte with column
    headers, 3 two bytes, 5 one byte.

    Raises:
        ValueError: another method, or a value that is not finite.
    """
    if method not in (1, 2, 3, 5):
        raise ValueError(f"compression method {method}: expected 1, 2, 3 or 5")
    num_rows, num_cols = matrix.shape
    if matrix.size == 0:
        return b"CM " + _HEADER.pack(0.0, 0.0, 0, 0)
    min_value, value_range = _global_range(matrix)
    if method == 1:
        method = 2 if num_rows > _MAX_ROWS_TWO_BYTE else 3
    header = _HEADER.pack(min_value, value_range, num_rows, num_cols)
    if method == 2:
        return b"CM " + header + _encode_columns(matrix, min_value, value_range)
    if method == 3:
        return b"CM2 " + header + _to_code(matrix, min_value, value_range, 65535).astype("<u2").tobytes()
    return b"CM3 " + header + _to_code(matrix, min_value, value_range, 255).astype("u1").tobytes()


def _global_range(matrix: Floats) -> tuple[np.float32, np.float32]:
    low, high = np.float32(matrix.min()), np.float32(matrix.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("a matrix with NaN or infinite values cannot be compressed")
    if low == high:
        high = np.float32(low + (1.0 + abs(low)))
    value_range = np.float32(high - low)
    if not np.isfinite(value_range):
        raise ValueError(f"values from {low} to {high} are too far apart to be compressed")
    return low, value_range


def _encode_columns(matrix: Floats, min_value: np.float32, value_range: np.float32) -> bytes:
    percentiles = _column_percentiles(matrix, min_value, value_range)
    p0, p25, p75, p100 = (_from_uint16(percentiles[i], min_value, value_range) for i in range(4))
    low, middle = _segment_code(matrix, p0, p25, 0, 64), _segment_code(matrix, p25, p75, 64, 192)
    high = _segment_code(matrix, p75, p100, 192, 255)
    codes = np.where(matrix < p25, low, np.where(matrix < p75, middle, high))
    return percentiles.T.astype("<u2").tobytes() + codes.T.astype("u1").tobytes()


def _segment_code(matrix: Floats, low: Floats, high: Floats, first: int, last: int) -> Codes:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        fraction = (matrix - low) / (high - low)
        scaled = (fraction * np.float32(last - first)).astype(np.float64)  # Kaldi adds the double 0.5 to it
        code = np.trunc(np.nan_to_num(scaled + 0.5, posinf=512.0, neginf=-512.0))
    clipped: Codes = np.clip(code, 0, last - first).astype(np.int64)
    return first + clipped


def _column_percentiles(matrix: Floats, min_value: np.float32, value_range: np.float32) -> Codes:
    """Encode the 0th, 25th, 75th and 100th percentile of every column as strictly increasing uint16."""
    num_rows = matrix.shape[0]
    quarter = num_rows // 4
    ranks = [0, quarter, 3 * quarter, num_rows - 1] if num_rows >= 5 else list(range(num_rows))
    ordered = np.partition(matrix, sorted(set(ranks)), axis=0)
    codes = np.zeros((4, matrix.shape[1]), dtype=np.int64)
    codes[: len(ranks)] = _to_code(ordered[ranks], min_value, value_range, 65535)
    codes[0] = np.minimum(codes[0], 65532)
    codes[1] = np.minimum(np.maximum(codes[1], codes[0] + 1), 65533)
    codes[2] = np.minimum(np.maximum(codes[2], codes[1] + 1), 65534)
    codes[3] = np.maximum(codes[3], codes[2] + 1)
    return codes


def _to_code(values: Floats, min_value: np.float32, value_range: np.float32, levels: int) -> Codes:
    fraction = np.clip((values - min_value) / value_range, np.float32(0), np.float32(1))
    # Kaldi adds the double 0.499 to a float product.
    codes: Codes = ((fraction * np.float32(levels)).astype(np.float64) + 0.499).astype(np.int64)
    return codes


def _from_uint16(code: NDArray[np.integer], min_value: SupportsFloat, value_range: SupportsFloat) -> Floats:
    scale = np.float32(value_range) * np.float32(1.52590218966964e-05)
    return np.float32(min_value) + scale * code.astype(np.float32)
