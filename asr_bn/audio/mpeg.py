"""MPEG audio (MP3 and its older layers): a file without a length, unless an encoder wrote one.

Source: ISO/IEC 11172-3 and 13818-3; the Xing header as LAME writes it (``VbrTag.c``).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from asr_bn.audio.samples import Decoded, count_parts, join, next_entry
from asr_bn.audio.sndfile import decode_with_sndfile

_KBITS = {  # by (MPEG 1, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MAX_TRIMMED = 1 << 13
_SEARCHED = 1 << 16
# Tags that follow each other; and those of all files that may be joined to one.
_TAGS_AT_ONCE, _MAX_TAGS = 20, 5_000


@dataclass(frozen=True)
class FrameHeader:
    """What the first four bytes of a frame say; ``size`` is the whole frame's, in bytes."""

    layer: int
    sample_frequency: int
    num_channels: int
    num_samples: int
    size: int
    side_bytes: int

    @classmethod
    def parse(cls, data: bytes, position: int) -> "FrameHeader | None":
        """Parse the frame at ``position``; None if none begins there, or one of free format."""
        if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] & 0xE0 != 0xE0:
            return None
        one, two, mono = data[position + 1], data[position + 2], data[position + 3] >> 6 == 3
        version, layer, padding = one >> 3 & 3, 4 - (one >> 1 & 3), two >> 1 & 1
        if version == 1 or layer == 4 or two >> 4 in (0, 15) or two >> 2 & 3 == 3:
            return None
        frequency, bits = _RATES[version][two >> 2 & 3], _KBITS[version == 3, layer][two >> 4] * 1000
        if layer == 1:
            num_samples, size = 384, (12 * bits // frequency + padding) * 4
        else:
            num_samples = 1152 if layer == 2 or version == 3 else 576
            size = num_samples // 8 * bits // frequency + padding
        side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
        return cls(layer, frequency, 1 if mono else 2, num_samples, size, side_bytes)


@dataclass(frozen=True)
class _Part:
    """The consecutive frames of one file; ``promised`` is the number that its encoder counted, if it did."""

    start: int
    end: int
    num_frames: int
    num_samples: int
    promised: int | None


def end_of_tags(data: bytes, position: int = 0) -> int:
    """Find the end of the ID3v2 tags at ``position``, up to 20 of them; ``position`` itself without any."""
    for _ in range(_TAGS_AT_ONCE):
        if data[position : position + 3] != b"ID3" or position + 10 > len(data):
            break
        flags, size = data[position + 5], data[position + 6 : position + 10]
        # Seven bits a byte; a flag says that ten more bytes follow the tag.
        position += 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(size))
        position += 10 if flags & 0x10 else 0
    return position


def decode_mpeg(data: bytes, where: str) -> Decoded:
    """Decode all joined files to samples ``[num_samples, num_channels]`` in int16 range, and the rate.

    Raises:
        ValueError: fewer frames than an encoder counted, something between frames that is no tag, or
            it cannot be decoded.
    """
    parts = _parts(data, _frames(data, where))
    if not parts:
        raise ValueError(f"{where}: no MPEG audio frames in it")
    return join([_decode_part(data, part, where) for part in parts], where)


def _decode_part(data: bytes, part: _Part, where: str) -> Decoded:
    if part.promised is not None and part.num_frames < part.promised - 1:  # some count the header, too
        raise ValueError(f"{where}: cut short: {part.promised} frames expected, {part.num_frames} found")
    # An encoder that left a header also tells how many samples at the ends are not the recording's.
    fewest = part.num_samples if part.promised is None else part.num_samples - _MAX_TRIMMED
    expected = range(fewest, part.num_samples + 1)
    return decode_with_sndfile(data[part.start : part.end], where, "mp3", expected)


def _parts(data: bytes, frames: Iterable[tuple[int, FrameHeader]]) -> list[_Part]:
    """Split joined files: a tag between frames, or an encoder's header, begins the next one."""
    parts: list[_Part] = []
    for position, header in frames:
        end, promised = position + header.size, _promised_frames(data, position, header)
        if promised is not None:
            parts.append(_Part(position, end, 0, 0, promised or None))
        elif parts and parts[-1].end == position:
            last = parts[-1]
            num_samples = last.num_samples + header.num_samples
            parts[-1] = replace(last, end=end, num_frames=last.num_frames + 1, num_samples=num_samples)
        else:
            parts.append(_Part(position, end, 1, header.num_samples, None))
    return [part for part in parts if part.num_frames]


def _frames(data: bytes, where: str) -> Iterator[tuple[int, FrameHeader]]:
    """Yield every whole frame and where it begins; a cut frame at the end is passed over."""
    position, found = 0, False
    tags = count_parts(where, _MAX_TAGS)
    while position < len(data):
        header = FrameHeader.parse(data, position)
        if header is not None and position + header.size <= len(data):
            yield position, header
            position, found = position + header.size, True
        elif (after := _end_of_tag(data, position)) is not None:
            position = after
            next(tags)
        elif found and next_entry(data, position, (b"ID3", b"\xff")):
            return
        else:
            following = _next_frame(data, position + 1)
            nearby = len(data) - position <= _SEARCHED
            if following is None and (nearby or not found):
                return
            if found or following is None:
                raise ValueError(f"{where}: corrupt: the bytes from {position} on are no MPEG audio frame")
            position = following


def _next_frame(data: bytes, position: int) -> int | None:
    """Find the next frame that another one follows; None if there is none nearby."""
    end = min(len(data), position + _SEARCHED)
    while (position := data.find(b"\xff", position, end)) >= 0:
        header = FrameHeader.parse(data, position)
        if header is not None and FrameHeader.parse(data, position + header.size) is not None:
            return position
        position += 1
    return None


def _end_of_tag(data: bytes, position: int) -> int | None:
    """Find the end of the tag at ``position``, perhaps of the next file; None if there is none."""
    if (end := end_of_tags(data, position)) > position:
        return end
    if data.startswith(b"TAG", position):
        return position + 128
    if data.startswith(b"APETAGEX", position) and position + 32 <= len(data):
        size, _, flags = struct.unpack_from("<III", data, position + 12)
        # Its size leaves out the header, which this is unless it is the footer of a tag without one.
        return position + 32 + (int(size) if flags & 1 << 29 else 0)
    return None


def _promised_frames(data: bytes, position: int, header: FrameHeader) -> int | None:
    """Read the number of frames in an encoder's header, 0 if it has none; None for a frame of audio."""
    if header.layer != 3:
        return None
    xing = position + 4 + header.side_bytes
    if header.size >= header.side_bytes + 16 and data[xing : xing + 4] in (b"Xing", b"Info"):
        flags, num_frames = struct.unpack_from(">II", data, xing + 4)
        return int(num_frames) if flags & 1 else 0
    if data[position + 36 : position + 40] == b"VBRI" and header.size >= 54:
        return int(struct.unpack_from(">I", data, position + 50)[0])
    return None
