"""Ogg: pages with checksums, in streams that may follow each other in one file (RFC 3533)."""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from asr_bn.audio.samples import Decoded, join, next_entry
from asr_bn.audio.sndfile import decode_with_sndfile

_FIRST, _LAST = 2, 4  # flags of a stream's first and last page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def decode_ogg(data: bytes, where: str) -> Decoded:
    """Decode all streams of a file to samples ``[num_samples, num_channels]`` in int16 range, and the rate.

    Raises:
        ValueError: cut short, a damaged page (decoders skip it and all that depends on it), or it cannot
            be decoded.
    """
    links = _links(data, where)
    return join([decode_with_sndfile(data[start:end], where, "ogg") for start, end in links], where)


@dataclass(frozen=True)
class _Page:
    """A page that ends at byte ``end``: its stream, its place there, and whether it is the first or last."""

    end: int
    serial: int
    sequence: int
    is_first: bool
    is_last: bool

    @classmethod
    def read(cls, data: bytes, position: int, where: str) -> "_Page":
        """Read the page at ``position`` and check its checksum."""
        head_end = position + 27
        body = head_end + data[position + 26] if head_end <= len(data) else len(data)
        end = body + sum(data[head_end:body])
        if head_end > len(data) or end > len(data):
            raise ValueError(f"{where}: cut short: its last Ogg page begins at byte {position}")
        flags, serial, sequence, expected = struct.unpack_from("<B8xIII", data, position + 5)
        page = data[position : position + 22] + bytes(4) + data[position + 26 : end]
        if checksum(page) != expected:
            raise ValueError(f"{where}: corrupt: the Ogg page at byte {position} has a wrong checksum")
        return cls(end, serial, sequence, bool(flags & _FIRST), bool(flags & _LAST))


def _links(data: bytes, where: str) -> list[tuple[int, int]]:
    """Find where chained files begin and end; all streams of a file begin before any goes on."""
    starts, position, sequences, begun = [0], 0, dict[int, int](), False
    while data.startswith(b"OggS", position):
        page = _Page.read(data, position, where)
        if page.is_first:
            if begun:
                _check_ended(sequences, position, where)
                starts.append(position)
            sequences[page.serial] = page.sequence
        elif sequences.get(page.serial) != page.sequence:
            raise ValueError(f"{where}: corrupt: an Ogg page is missing before byte {position}")
        begun = not page.is_first
        sequences[page.serial] = page.sequence + 1
        if page.is_last:
            del sequences[page.serial]
        position = page.end
    _check_ended(sequences, position, where)
    if not next_entry(data, position, (b"OggS",)) and data.find(b"OggS", position) >= 0:
        raise ValueError(f"{where}: corrupt: no Ogg page at byte {position}, but one behind it")
    return list(pairwise([*starts, position]))


def _check_ended(sequences: dict[int, int], position: int, where: str) -> None:
    if sequences:
        raise ValueError(f"{where}: cut short: no last page of its stream before byte {position}")


def checksum(page: bytes) -> int:
    """Compute Ogg's CRC-32, which reverses the order of zlib's bits and inverts neither start nor end."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED), "big")
