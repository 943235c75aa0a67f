"""WAV and its 64-bit kin (RF64, BW64, W64): 16-bit PCM here, other codings by the decoders they need.

What the sizes in a header mean is Kaldi's (``src/feat/wave-reader.cc``), but what is cut short is refused.
"""

import struct
from dataclasses import dataclass, replace

import numpy as np

from asr_bn.audio.chunks import Chunk, SampleBytes, check_last, check_rest, iff_chunks, settle, w64_chunks
from asr_bn.audio.mpeg import decode_mpeg
from asr_bn.audio.samples import Decoded
from asr_bn.audio.sndfile import decode_with_sndfile

_PCM, _GSM, _MPEG, _MP3, _EXTENSIBLE = 1, 0x31, 0x50, 0x55, 0xFFFE
_UNKNOWN = (0, 0xFFFFFFFF)
_UNKNOWN_64 = (0, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class _Format:
    code: int
    num_channels: int
    sample_frequency: int
    bits: int
    num_samples: int | None = None  # where the last block is filled up


def decode_wav(data: bytes, where: str) -> Decoded:
    """Decode to samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency.

    Raises:
        ValueError: cut short, not made of proper chunks, several chunks of samples, or a coding that
            cannot be decoded.
    """
    order = ">" if data.startswith(b"RIFX") else "<"
    fmt, samples = _find(data, order, where)
    body = memoryview(data)[samples.start : samples.start + samples.size]
    if fmt.code == _PCM and fmt.bits == 16:
        num_samples = len(body) // (2 * fmt.num_channels)
        flat = np.frombuffer(body, dtype=f"{order}i2", count=num_samples * fmt.num_channels)
        native = flat.astype(np.int16, copy=False)
        return native.reshape(num_samples, fmt.num_channels), fmt.sample_frequency
    if fmt.code in (_MPEG, _MP3):
        return decode_mpeg(bytes(body), where)
    demuxer = "w64" if data.startswith(b"riff") else "wav"
    decoded, frequency = decode_with_sndfile(samples.with_true_sizes(data), where, demuxer)
    return decoded[: fmt.num_samples], frequency


def _find(data: bytes, order: str, where: str) -> tuple[_Format, SampleBytes]:
    wide = data.startswith(b"riff")
    fmt, sizes = None, None
    for chunk in w64_chunks(data, 40, where) if wide else iff_chunks(data, 12, order, where):
        if chunk.name == b"ds64" and chunk.size >= 24 and chunk.start + chunk.size <= len(data):
            sizes = chunk.start
        elif chunk.name == b"fmt ":
            fmt = _parse_format(data, chunk, order, where)
        elif chunk.name == b"fact" and fmt is not None and fmt.code == _GSM and len(data) >= chunk.start + 4:
            (count,) = struct.unpack_from(f"{order}I", data, chunk.start)
            fmt = replace(fmt, num_samples=count or None)
        elif chunk.name == b"data":
            if fmt is None:
                raise ValueError(f"{where}: corrupt WAV: its data come before its format")
            if wide:
                return fmt, _w64_samples(data, chunk, where)
            return fmt, _riff_samples(data, chunk, order, sizes, where)
    raise ValueError(f"{where}: cut short: a WAV file without data")


def _parse_format(data: bytes, chunk: Chunk, order: str, where: str) -> _Format:
    if chunk.size < 16 or chunk.start + chunk.size > len(data):
        raise ValueError(f"{where}: cut short or corrupt: a WAV format chunk of {chunk.size} bytes")
    code, num_channels, frequency, _, _, bits = struct.unpack_from(f"{order}HHIIHH", data, chunk.start)
    if code == _EXTENSIBLE and chunk.size >= 26:
        (code,) = struct.unpack_from(f"{order}H", data, chunk.start + 24)
    if num_channels == 0 or frequency == 0:
        raise ValueError(f"{where}: corrupt WAV: {num_channels} channels at {frequency} Hz")
    return _Format(code, num_channels, frequency, bits)


def _riff_samples(data: bytes, chunk: Chunk, order: str, sizes: int | None, where: str) -> SampleBytes:
    """Find the samples of the chunk ``data``; ``sizes`` is where an RF64 file's 64-bit sizes are."""
    (outer,) = struct.unpack_from(f"{order}I", data, 4)
    promised, to_end = chunk.size, chunk.start - 8
    fields: tuple[tuple[int, str, int], ...] = ((4, f"{order}I", to_end), (chunk.start - 4, f"{order}I", 0))
    if sizes is not None:
        fields = ((sizes, "<Q", to_end), (sizes + 8, "<Q", 0), fields[1])
        outer, inner = struct.unpack_from("<QQ", data, sizes)
        promised = inner if promised == 0xFFFFFFFF else promised
    if outer in _UNKNOWN:
        promised = 0
    found = settle(data, chunk.start, promised, outer == len(data) - 8, where, fields)
    check_rest(data, chunk.start + found.size, order, outer + 8, where)
    return found


def _w64_samples(data: bytes, chunk: Chunk, where: str) -> SampleBytes:
    (outer,) = struct.unpack_from("<Q", data, 16)
    if -24 < chunk.size < 0:
        raise ValueError(f"{where}: corrupt W64: a data chunk of {chunk.size + 24} bytes, header included")
    promised = 0 if outer in _UNKNOWN_64 else max(0, chunk.size)
    fields = ((16, "<Q", chunk.start), (chunk.start - 8, "<Q", 24))
    found = settle(data, chunk.start, promised, outer == len(data), where, fields)
    end = found.start + found.size
    check_last(data, end, w64_chunks(data, end + 7 & ~7, where), where)
    return found
