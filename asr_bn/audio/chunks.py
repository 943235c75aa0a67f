"""Files made of chunks, each with its size: RIFF, AIFF, CAF, W64, AU; MP4's boxes; Matroska's elements.

The sizes in a header are a hint: it may be written before they are known, or stay when a file is cut.  Here
they are compared with the bytes that are there.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from asr_bn.audio.samples import count_parts, next_entry

_KNOWN_CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"COMM", b"SSND", b"JUNK", b"bext", b"cue ", b"PEAK")
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid")
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675  # whose size a live stream does not know
# Programs that do not know a size write one near 2 or 4 GiB.
_STREAMED = 0x7F000000
_TAGS = (b"TAG", b"ID3", b"APETAGEX")
_MAX_BEHIND = 1024
# A live stream of four hours has so many blocks of 20 ms.
_MAX_ELEMENTS = 750_000


class Chunk(NamedTuple):
    """A chunk's name, where its contents start, and how many bytes of them its header promises."""

    name: bytes
    start: int
    size: int


@dataclass(frozen=True)
class SampleBytes:
    """Where a file's samples are, in bytes.

    Attributes:
        start: the first byte.
        size: the number of bytes in the file.
        fields: place, form and addend of each size in the header; only for a stream, whose header does not
            know its size.
    """

    start: int
    size: int
    fields: tuple[tuple[int, str, int], ...] = ()

    def with_true_sizes(self, data: bytes) -> bytes:
        """Return the file with the true sizes in its header; ``data`` itself if they are true."""
        if not self.fields:
            return data
        head = bytearray(data[: self.start])
        for position, form, added in self.fields:
            most = (1 << 8 * struct.calcsize(form) - 1) * (1 if form.endswith("q") else 2) - 1
            struct.pack_into(form, head, position, min(self.size + added, most))
        return bytes(head) + data[self.start : self.start + self.size]


def settle(
    data: bytes, start: int, promised: int, whole: bool, where: str, fields: tuple[tuple[int, str, int], ...]
) -> SampleBytes:
    """Find how many bytes of samples there are, of the ``promised`` ones.

    Args:
        whole: another size in the file says that it is complete.
        fields: as in `SampleBytes`.

    Raises:
        ValueError: cut short, or another file follows.
    """
    found = len(data) - start
    if promised <= found and promised > 0:
        rest = data[start + promised : start + promised + 5]
        if data[:4] in (rest[:4], rest[1:]):
            raise ValueError(f"{where}: another file is joined to it at byte {start + promised}")
        return SampleBytes(start, promised)
    # Some recorders count their own header as samples.
    if promised > 0 and not whole and promised != len(data) and not _is_streamed(promised, found):
        raise ValueError(f"{where}: cut short: {promised} bytes of samples expected, {found} found")
    return SampleBytes(start, found, fields)


def _is_streamed(promised: int, found: int) -> bool:
    return promised >= _STREAMED and found < promised // 2


def iff_chunks(data: bytes, position: int, order: str, where: str) -> Iterator[Chunk]:
    """Yield chunks of four letters and 32 bits of size; some programs leave out the byte after an odd one."""
    for _ in count_parts(where):
        if position + 8 > len(data):
            return
        name, size = struct.unpack_from(f"{order}4sI", data, position)
        yield Chunk(name, position + 8, size)
        position += 8 + size
        if size % 2:
            position = _skip_padding(data, position)


def _skip_padding(data: bytes, position: int) -> int:
    return position if data[position : position + 4] in _KNOWN_CHUNKS else position + 1


def w64_chunks(data: bytes, position: int, where: str) -> Iterator[Chunk]:
    """Yield chunks of a GUID and 64 bits of size, which counts its own header; aligned to eight bytes."""
    for _ in count_parts(where):
        if position + 24 > len(data):
            return
        guid, size = struct.unpack_from("<16sQ", data, position)
        yield Chunk(guid[:4], position + 24, size - 24)
        position += max(24, size + 7 & ~7)


def check_rest(data: bytes, position: int, order: str, end_of_file: int, where: str) -> None:
    """Refuse bytes behind the samples, unless they are chunks, zeros, a tag or an archive's next entry.

    ``end_of_file`` is where the file says that it ends; a little may stand behind that.

    Raises:
        ValueError: a second chunk of samples, which Kaldi would leave out, or bytes of another kind.
    """
    if position < len(data):
        _check_behind(data, _end_of_chunks(data, position, order, where), end_of_file, where)


def check_last(data: bytes, end: int, chunks: Iterator[Chunk], where: str) -> None:
    """Refuse bytes behind the samples, which end at ``end``, unless they are whole ``chunks`` or harmless.

    Raises:
        ValueError: bytes of another kind.
    """
    for chunk in chunks:
        is_name = chunk.name.isascii() and chunk.name.decode().isprintable()
        if not is_name or not 0 <= chunk.size <= len(data) - chunk.start:
            break
        end = chunk.start + chunk.size
    _check_behind(data, end, end, where)


def _check_behind(data: bytes, end: int, end_of_file: int, where: str) -> None:
    inside, behind = min(end_of_file, len(data)) - end, len(data) - end
    if (inside <= 1 and behind <= _MAX_BEHIND) or next_entry(data, end, (data[:4],)):
        return
    if data.startswith(_TAGS, end) or not data[end:].strip(b"\0"):
        return
    raise ValueError(
        f"{where}: corrupt: {behind} bytes behind its samples, from byte {end} on, are no part of it"
    )


def _end_of_chunks(data: bytes, position: int, order: str, where: str) -> int:
    """Find the end of the chunks that follow the samples, which end at ``position``."""
    end = position
    first = _skip_padding(data, position) if position % 2 else position
    for chunk in iff_chunks(data, first, order, where):
        cut = chunk.start + chunk.size > len(data)
        if chunk.name in (b"data", b"SSND") and chunk.size:
            raise ValueError(
                f"{where}: two chunks of samples, the second at byte {chunk.start - 8}; expected one"
            )
        if chunk.name not in _KNOWN_CHUNKS and (cut or not chunk.name.strip(b"\0")):
            break
        end = chunk.start + chunk.size
    return end


def aiff_samples(data: bytes, where: str) -> SampleBytes:
    """Find the samples of an AIFF or AIFF-C file; see `settle`."""
    for chunk in iff_chunks(data, 12, ">", where):
        if chunk.name == b"SSND":
            (outer,) = struct.unpack_from(">I", data, 4)
            # libsndfile takes what is there; its sizes need no mending.
            samples = settle(data, chunk.start, chunk.size, outer in (0, len(data) - 8), where, ())
            check_rest(data, chunk.start + samples.size, ">", outer + 8, where)
            return samples
    raise ValueError(f"{where}: cut short: an AIFF file without samples")


def au_samples(data: bytes, where: str) -> SampleBytes:
    """Find the samples of an AU file; see `settle`."""
    if len(data) < 24:
        raise ValueError(f"{where}: cut short: an AU header of {len(data)} bytes")
    start, promised = struct.unpack_from(">II", data, 4)
    if not 24 <= start <= len(data):
        raise ValueError(f"{where}: cut short or corrupt: an AU header of {start} bytes")
    samples = settle(data, start, promised, False, where, ((8, ">I", 0),))
    end = start + samples.size
    _check_behind(data, end, end, where)
    return samples


def caf_samples(data: bytes, where: str) -> SampleBytes:
    """Find the samples of a CAF file; see `settle` and `check_last`."""
    for chunk in _caf_chunks(data, 8, where):
        if chunk.name == b"data":
            fields = ((chunk.start - 8, ">q", 0),)
            samples = settle(data, chunk.start, max(0, chunk.size), False, where, fields)
            end = samples.start + samples.size
            check_last(data, end, _caf_chunks(data, end, where), where)
            return samples
    raise ValueError(f"{where}: cut short: a CAF file without samples")


def _caf_chunks(data: bytes, position: int, where: str) -> Iterator[Chunk]:
    """Yield chunks of four letters and 64 bits of size."""
    for _ in count_parts(where):
        if position + 12 > len(data):
            return
        name, size = struct.unpack_from(">4sq", data, position)
        yield Chunk(name, position + 12, size)
        position += 12 + max(0, size)


def check_mp4(data: bytes, where: str) -> None:
    """Raise ``ValueError`` if an MP4 file is cut short, or another one is joined to it."""
    position, seen = 0, set[bytes]()
    for _ in count_parts(where):
        if position + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, position)
        if name not in _BOXES or size == 0:  # a tag behind the file; or the box goes on to the end
            return
        if name == b"moov" and name in seen:
            raise ValueError(f"{where}: another file is joined to it before byte {position}")
        seen.add(name)
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
        position += max(8, size)
    if position > len(data):
        raise ValueError(f"{where}: cut short: {position} bytes expected, {len(data)} found")


def check_matroska(data: bytes, where: str) -> None:
    """Raise ``ValueError`` if a Matroska or WebM file is cut short."""
    position = 0
    for _ in count_parts(where, _MAX_ELEMENTS):
        if position >= len(data):
            return
        name, after_name = _ebml_number(data, position, keep_marker=True)
        size, start = _ebml_number(data, after_name, keep_marker=False)
        end = start + max(0, size)
        if start > len(data) or end > len(data):
            raise ValueError(f"{where}: cut short: {end} bytes expected, {len(data)} found")
        if size < 0 and name not in (_SEGMENT, _CLUSTER):
            return  # nothing that tells where it ends; the decoder will see
        position = start if name == _SEGMENT or size < 0 else end


def _ebml_number(data: bytes, position: int, keep_marker: bool) -> tuple[int, int]:
    """Read a number of one to eight bytes and find its end; all bits set means unknown, here -1."""
    first = data[position] if position < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[position : position + length])
    if not keep_marker:
        value &= (1 << 7 * length) - 1
        value = -1 if value == (1 << 7 * length) - 1 else value
    return value, position + length
