"""16-bit PCM WAV, the files Kaldi itself reads (``src/feat/wave-reader.cc``)."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PCM, _EXTENSIBLE = 1, 0xFFFE
# Sizes that programs write to a pipe before they know better (sox, ffmpeg): the data go on to the end.
_STREAMED_SIZES = {0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF024, 0x7FFFEFDC}


@dataclass(frozen=True)
class _Format:
    code: int
    num_channels: int
    sample_frequency: int
    bits: int


def decode_pcm16_wav(data: bytes, where: str) -> tuple[NDArray[np.int16], int] | None:
    """Samples ``[num_samples, num_channels]`` and sample frequency; None for a WAV of another encoding.

    Raises:
        ValueError: cut short, or not made of proper chunks.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    view, position, fmt = memoryview(data), 12, None
    while position + 8 <= len(data):
        name, size = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
        position += 8
        if name == b"fmt ":
            fmt = _parse_format(data, position, size, where)
        elif name == b"data":
            if fmt is None:
                raise ValueError(f"{where}: corrupt WAV: its data come before its format")
            if fmt.code != _PCM or fmt.bits != 16:
                return None
            return _samples(view[position:], size, fmt, where), fmt.sample_frequency
        position += size + size % 2
    raise ValueError(f"{where}: cut short: a WAV file without data")


def _parse_format(data: bytes, position: int, size: int, where: str) -> _Format:
    if size < 16 or position + size > len(data):
        raise ValueError(f"{where}: cut short or corrupt: a WAV format chunk of {size} bytes")
    code, num_channels, frequency, _, _, bits = struct.unpack_from("<HHIIHH", data, position)
    if code == _EXTENSIBLE and size >= 26:
        code = struct.unpack_from("<H", data, position + 24)[0]
    if num_channels == 0 or frequency == 0:
        raise ValueError(f"{where}: corrupt WAV: {num_channels} channels at {frequency} Hz")
    return _Format(code, num_channels, frequency, bits)


def _samples(body: memoryview, size: int, fmt: _Format, where: str) -> NDArray[np.int16]:
    if size in _STREAMED_SIZES:
        size = len(body)
    if size > len(body):
        raise ValueError(f"{where}: cut short: {size} bytes of samples expected, {len(body)} found")
    num_samples = size // (2 * fmt.num_channels)
    samples = np.frombuffer(body, dtype="<i2", count=num_samples * fmt.num_channels)
    return samples.reshape(num_samples, fmt.num_channels)
