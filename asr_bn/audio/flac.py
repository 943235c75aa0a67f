"""FLAC: the header may not know how many samples follow, but the last frame does.

Source: RFC 9639.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from asr_bn.audio.samples import Decoded, join
from asr_bn.audio.sndfile import decode_with_sndfile

_STREAMINFO = 42  # bytes up to its end
_MAGIC = b"fLaC"
_KEY_BEFORE = re.compile(rb"[^\s\0] \Z")
_BEGIN = re.compile(_MAGIC + rb"[\x00\x80]\x00\x00\x22")
_UNKNOWN_MD5 = bytes(16)
_MAX_FRAME = 1 << 20


def decode_flac(data: bytes, where: str) -> Decoded:
    """Decode all joined files to samples ``[num_samples, num_channels]`` in int16 range, and the rate.

    Raises:
        ValueError: cut short, more frames than the header promises, a checksum of the samples that is not
            the header's, or it cannot be decoded.
    """
    parts: list[Decoded] = []
    start = 0
    while start < len(data):
        following = data.find(_MAGIC, start + 4) > 0 and _BEGIN.search(data, start + 4)
        end = following.start() if following else len(data)
        part = data[start:end]
        parts.append(_decode_one(part, where))
        if following and _end_of_last_frame(part, proven=True) is None:
            if not _KEY_BEFORE.search(data, start, end):
                raise ValueError(f"{where}: corrupt: another FLAC file at byte {end}, behind something else")
            break  # the next entry of an archive
        start = end
    return join(parts, where)


def _decode_one(data: bytes, where: str) -> Decoded:
    if not _BEGIN.match(data) or len(data) < _STREAMINFO:
        raise ValueError(f"{where}: cut short or corrupt: no STREAMINFO in it")
    total, found = _total(data), _end_of_last_frame(data)
    if total == 0:
        if found is None:
            raise ValueError(f"{where}: cut short: no whole frame at its end")
        data = data[:21] + bytes([data[21] & 0xF0 | found >> 32]) + found.to_bytes(5)[1:] + data[26:]
    elif found not in (None, total) and data[8:10] == data[10:12]:  # frames of one size can be counted
        raise ValueError(f"{where}: its header promises {total} samples, its last frame ends at {found}")
    samples, frequency = decode_with_sndfile(data, where)
    md5 = data[26:_STREAMINFO]
    if samples.dtype == np.int16 and md5 != _UNKNOWN_MD5 and hashlib.md5(samples.data).digest() != md5:
        raise ValueError(f"{where}: corrupt: the MD5 of its samples is not the one in its header")
    return samples, frequency


def _total(data: bytes) -> int:
    """Read the number of samples in the header, 0 where it is not known."""
    return int.from_bytes(data[21:26]) & (1 << 36) - 1


def _end_of_last_frame(data: bytes, proven: bool = False) -> int | None:
    """Count samples up to the end of the last frame; None if ``data`` does not end with a whole one.

    Without ``proven``, a header whose samples end as promised is taken without its frame's checksum.
    """
    total, budget = _total(data), _MAX_FRAME
    for position, end in _headers_from_the_end(data):
        if (end == total and not proven) or _crc(data[position:], 0x8005, 16) == 0:
            return end
        budget -= len(data) - position
        if budget < 0:
            break
    return None


def _headers_from_the_end(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where a frame may begin and the number of samples up to its end, the last frame first."""
    lowest = max(_STREAMINFO, len(data) - _MAX_FRAME)
    position = len(data)
    while (position := data.rfind(b"\xff", lowest, position)) >= 0:
        if data[position + 1 : position + 2] in (b"\xf8", b"\xf9"):
            end = _end_of_frame(data[position : position + 16], int.from_bytes(data[8:10]))
            if end is not None:
                yield position, end


def _end_of_frame(head: bytes, block_size: int) -> int | None:
    """Count samples up to the end of the frame with this header; None if it is no header."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    ones = 8 - (~head[4] & 0xFF).bit_length()  # as in UTF-8: how many bytes the number takes
    length = max(1, ones)
    code, rate = head[2] >> 4, head[2] & 15
    size_bytes = {6: 1, 7: 2}.get(code, 0)
    crc_at = 4 + length + size_bytes + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if ones in (1, 8) or crc_at >= len(head) or _crc(head[: crc_at + 1], 0x07, 8) != 0:
        return None
    number = head[4] & 0xFF >> ones + 1 if ones else head[4]
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    stored = int.from_bytes(head[4 + length : 4 + length + size_bytes]) + 1
    own = stored if size_bytes else 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    return number + own if head[1] & 1 else number * block_size + own


@lru_cache(maxsize=2)
def _crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return tuple(table)


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """Compute the checksum of ``data``; 0 if it ends with its own."""
    table, crc, mask = _crc_table(polynomial, bits), 0, (1 << bits) - 1
    for byte in data:
        crc = crc << 8 & mask ^ table[crc >> bits - 8 ^ byte]
    return crc
