"""Kaldi's basic types on a stream, binary and text (``src/base/io-funcs.h``)."""

import re
import struct
from collections.abc import Sequence
from typing import IO

import numpy as np

from asr_bn.kaldi_io.byte_stream import peek, read_exact
from asr_bn.kaldi_io.plain_text import WHITESPACE
from asr_bn.kaldi_io.utterance_id import MAX_ID_BYTES, decode_id
from asr_bn.system.arrays import IntVector

BINARY_MARK = b"\0B"
# The empty end of a stream is in it, too.
_WHITESPACE = WHITESPACE.encode()
_KEY = re.compile(rb"\s*(\S+)(\s)")
_MAX_TOKEN = 1024
_INT32 = struct.Struct("<i")


def read_key(stream: IO[bytes], where: str) -> tuple[str, bytes] | None:
    """Read the next utterance id of an archive and the byte after it; None at the end.

    As in Kaldi the byte is a blank, a tab, or the line end of a text entry without words.

    Raises:
        ValueError: not an id, another byte after it, or the archive ends after it.
    """
    if found := _KEY.match(peek(stream)):
        stream.read(found.end())
        key, byte = found.groups()
    else:
        key, byte = _read_key_by_bytes(stream, where)
    if not key:
        return None
    if not byte:
        raise ValueError(f"{where}: cut short: it ends after the utterance id {key[:40]!r}")
    utt_id = decode_id(key, where)
    if byte not in b" \t\n":
        raise ValueError(f"{where}: expected a blank after the utterance id {utt_id!r}, found {byte!r}")
    return utt_id, byte


def _read_key_by_bytes(stream: IO[bytes], where: str) -> tuple[bytes, bytes]:
    """Read the id and the byte after it where the stream's buffer ends within the id."""
    key = bytearray()
    while (byte := stream.read(1)) not in _WHITESPACE or (byte and not key):
        key += byte.strip()
        if len(key) > MAX_ID_BYTES:
            raise ValueError(f"{where}: not a Kaldi archive (no utterance id where one should be)")
    return bytes(key), byte


def read_int32(stream: IO[bytes], where: str) -> int:
    """Read a raw little-endian int32, without a size byte."""
    value: int = _INT32.unpack(read_exact(stream, 4, where))[0]
    return value


def read_basic_int32(stream: IO[bytes], where: str) -> int:
    """Read a size byte of 4 and an int32 (``ReadBasicType<int32>``)."""
    size = read_exact(stream, 1, where)
    if size != b"\x04":
        raise ValueError(f"{where}: expected a 4-byte integer, found the size byte {size[0]}")
    return read_int32(stream, where)


def read_basic_uint32(stream: IO[bytes], where: str) -> int:
    """Read a size byte of -4 and a uint32 (``ReadBasicType<uint32>``)."""
    size = read_exact(stream, 1, where)
    if size != b"\xfc":
        raise ValueError(f"{where}: expected an unsigned 4-byte integer, found the size byte {size[0]}")
    return int.from_bytes(read_exact(stream, 4, where), "little")


def read_basic_float(stream: IO[bytes], where: str) -> float:
    """Read a size byte of 4 or 8 and a float of that size (``ReadBasicType<float>``)."""
    size = read_exact(stream, 1, where)[0]
    if size not in (4, 8):
        raise ValueError(f"{where}: expected a 4- or 8-byte number, found the size byte {size}")
    value: float = struct.unpack("<f" if size == 4 else "<d", read_exact(stream, size, where))[0]
    return value


def read_int_vector(stream: IO[bytes], where: str) -> IntVector:
    """Read a size byte of 4, an int32 length and int32 values (``ReadIntegerVector<int32>``)."""
    size = read_exact(stream, 1, where)
    if size != b"\x04":
        raise ValueError(f"{where}: expected a vector of 4-byte integers, found the size byte {size[0]}")
    length = read_int32(stream, where)
    if length < 0:
        raise ValueError(f"{where}: corrupt: a vector of length {length}")
    return np.frombuffer(read_exact(stream, 4 * length, where), dtype="<i4").astype(np.int32, copy=False)


def read_token(stream: IO[bytes], where: str) -> str:
    """Read the next word and the whitespace that ends it, after any leading whitespace."""
    token = bytearray()
    while True:
        byte = stream.read(1)
        if not byte and not token:
            raise ValueError(f"{where}: cut short: expected a word, found the end of the file")
        if byte in _WHITESPACE:
            if token:
                return token.decode("latin-1")
            continue
        token += byte
        if len(token) > _MAX_TOKEN:
            raise ValueError(f"{where}: corrupt: a word longer than {_MAX_TOKEN} bytes")


def encode_integers(*values: int) -> bytes:
    """Encode basic int32, each with its size before it."""
    return b"".join(struct.pack("<bi", 4, value) for value in values)


def encode_integer_vector(values: Sequence[int]) -> bytes:
    """Encode a vector of int32 inside a model file (``WriteIntegerVector``)."""
    return struct.pack(f"<bi{len(values)}i", 4, len(values), *values)
