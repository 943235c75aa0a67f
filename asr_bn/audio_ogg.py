"""Ogg: pages with checksums, in streams that may follow each other in one file (RFC 3533)."""

import struct
import zlib

from asr_bn.audio_samples import Decoded, join
from asr_bn.audio_sndfile import decode_with_sndfile

_FIRST, _LAST = 2, 4  # flags of a stream's first and last page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def decode_ogg(data: bytes, where: str) -> Decoded:
    """Samples ``[num_samples, num_channels]`` in int16 range, and the rate, of all streams of the file.

    Raises:
        ValueError: cut short, a damaged page (decoders skip it and all that depends on it), or it cannot
            be decoded.
    """
    links = _links(data, where)
    return join([decode_with_sndfile(data[start:end], where, "ogg") for start, end in links], where)


def _links(data: bytes, where: str) -> list[tuple[int, int]]:
    """Where the chained files begin and end; the streams of one file begin before any goes on."""
    links: list[tuple[int, int]] = []
    position, start, running, begun = 0, 0, set[int](), False
    while data.startswith(b"OggS", position):
        end, flags, serial = _page(data, position, where)
        if flags & _FIRST:
            if begun:
                _check_ended(running, position, where)
                links.append((start, position))
                start, begun = position, False
            running.add(serial)
        else:
            begun = True
        if flags & _LAST:
            running.discard(serial)
        position = end
    _check_ended(running, position, where)
    return [*links, (start, position)]


def _check_ended(running: set[int], position: int, where: str) -> None:
    if running:
        raise ValueError(f"{where}: cut short or corrupt: no last page of its stream before byte {position}")


def _page(data: bytes, position: int, where: str) -> tuple[int, int, int]:
    """Where the page ends, its flags, and the number of its stream; its checksum must be right."""
    head_end = position + 27
    if head_end <= len(data):
        flags, serial, expected = data[position + 5], *struct.unpack_from("<I4xI", data, position + 14)
        body = head_end + data[position + 26]
        end = body + sum(data[head_end:body])
        if end <= len(data):
            page = bytearray(data[position:end])
            page[22:26] = bytes(4)
            if _checksum(bytes(page)) != expected:
                raise ValueError(f"{where}: corrupt: the Ogg page at byte {position} has a wrong checksum")
            return end, flags, serial
    raise ValueError(f"{where}: cut short: its last Ogg page begins at byte {position}")


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32, which takes the bits the other way round than zlib, and neither end inverted."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED), "big")
