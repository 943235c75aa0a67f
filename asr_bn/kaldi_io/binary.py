"""Kaldi's basic types on a stream, binary and text (``src/base/io-funcs.h``)."""

import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.rxfilename import read_exact

BINARY_MARK = b"\0B"
_MAX_TOKEN = 1024
_INT32 = struct.Struct("<i")


def read_key(stream: IO[bytes], where: str) -> str | None:
    """The next utterance id of an archive, its following space consumed; None at the end.

    Raises:
        ValueError: not UTF-8, longer than 1024 bytes, or the archive ends inside it.
    """
    key = bytearray()
    while True:
        byte = stream.read(1)
        if byte in (b" ", b"\t", b"\n", b"\r", b""):
            if key:
                break
            if not byte:
                return None
            continue
        key += byte
        if len(key) > _MAX_TOKEN:
            raise ValueError(f"{where}: not a Kaldi archive (no utterance id where one should be)")
    if not byte:
        raise ValueError(f"{where}: cut short: it ends after the utterance id {bytes(key)!r}")
    return decode_id(bytes(key), where)


def decode_id(key: bytes, where: str) -> str:
    """``key`` as text.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: the utterance id {key!r} is not UTF-8") from error


def read_int32(stream: IO[bytes], where: str) -> int:
    """A raw little-endian int32 (no size byte)."""
    value: int = _INT32.unpack(read_exact(stream, 4, where))[0]
    return value


def read_basic_int32(stream: IO[bytes], where: str) -> int:
    """``ReadBasicType<int32>``: a size byte of 4, then the value."""
    size = read_exact(stream, 1, where)
    if size != b"\x04":
        raise ValueError(f"{where}: expected a 4-byte integer, found the size byte {size[0]}")
    return read_int32(stream, where)


def read_basic_uint32(stream: IO[bytes], where: str) -> int:
    """``ReadBasicType<uint32>``: a size byte of -4, then the value."""
    size = read_exact(stream, 1, where)
    if size != b"\xfc":
        raise ValueError(f"{where}: expected an unsigned 4-byte integer, found the size byte {size[0]}")
    return int.from_bytes(read_exact(stream, 4, where), "little")


def read_basic_float(stream: IO[bytes], where: str) -> float:
    """``ReadBasicType<float>``: a size byte of 4 or 8, then the value."""
    size = read_exact(stream, 1, where)[0]
    if size not in (4, 8):
        raise ValueError(f"{where}: expected a 4- or 8-byte number, found the size byte {size}")
    value: float = struct.unpack("<f" if size == 4 else "<d", read_exact(stream, size, where))[0]
    return value


def read_int_vector(stream: IO[bytes], where: str) -> NDArray[np.int32]:
    """``ReadIntegerVector<int32>`` in binary: size byte 4, int32 length, the values."""
    size = read_exact(stream, 1, where)
    if size != b"\x04":
        raise ValueError(f"{where}: expected a vector of 4-byte integers, found the size byte {size[0]}")
    length = read_int32(stream, where)
    if length < 0:
        raise ValueError(f"{where}: corrupt: a vector of length {length}")
    return np.frombuffer(read_exact(stream, 4 * length, where), dtype="<i4").astype(np.int32, copy=False)


def read_token(stream: IO[bytes], where: str) -> str:
    """The next whitespace-ended word; leading whitespace is skipped (also the text form's)."""
    token = bytearray()
    while True:
        byte = stream.read(1)
        if not byte and not token:
            raise ValueError(f"{where}: cut short: expected a word, found the end of the file")
        if byte in (b" ", b"\t", b"\n", b"\r", b""):
            if token:
                return token.decode("latin-1")
            continue
        token += byte
        if len(token) > _MAX_TOKEN:
            raise ValueError(f"{where}: corrupt: a word longer than {_MAX_TOKEN} bytes")


def expect_token(stream: IO[bytes], expected: str, where: str) -> None:
    """Read a word and require it to be ``expected``."""
    token = read_token(stream, where)
    if token != expected:
        raise ValueError(f"{where}: expected {expected}, found {token[:40]!r}")
