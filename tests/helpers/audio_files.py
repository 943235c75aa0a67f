"""Audio files in memory, made by libsndfile, by FFmpeg or by hand."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.helpers.kaldi_fixtures import SYNTHETIC

RATE = 16000
SPEECH: NDArray[np.int16] = soundfile.read(SYNTHETIC / "audio/f1-015.wav", dtype="int16")[0]


def encoded(kind: str, subtype: str | None, samples: NDArray[np.int16] = SPEECH, rate: int = RATE) -> bytes:
    """Encode with libsndfile."""
    stream = io.BytesIO()
    floats = samples / 32768 if subtype in ("FLOAT", "DOUBLE") else samples
    soundfile.write(stream, floats, rate, format=kind, subtype=subtype)
    return stream.getvalue()


class Pipe:
    """An output that cannot be sought in."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        """Keep ``data``."""
        self.written += bytes(data)
        return len(data)


def muxed(
    muxer: str,
    codec: str,
    samples: NDArray[np.int16] = SPEECH,
    rate: int = RATE,
    piped: bool = False,
    layout: str = "mono",
    **options: str,
) -> bytes:
    """Encode with FFmpeg, into a file or a pipe; the samples go to every channel of ``layout``."""
    output = Pipe() if piped else io.BytesIO()
    with av.open(output, "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(
            stream.format.name, layout, rate, frame_size=stream.codec_context.frame_size
        )
        for block in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(block))
    return bytes(output.written) if isinstance(output, Pipe) else output.getvalue()


def chunk(name: bytes, contents: bytes, size: int | None = None, order: str = "<") -> bytes:
    """A RIFF chunk that claims to have ``size`` bytes (default: the truth), without a byte of padding."""
    return name + struct.pack(f"{order}I", len(contents) if size is None else size) + contents


def fmt(code: int = 1, bits: int = 16, rate: int = RATE, order: str = "<") -> bytes:
    """A WAV format chunk of one channel."""
    fields = (code, 1, rate, rate * bits // 8, bits // 8, bits)
    return chunk(b"fmt ", struct.pack(f"{order}HHIIHH", *fields), order=order)


def riff(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF", order: str = "<") -> bytes:
    """A WAV file of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack(f"{order}I", len(body) if size is None else size) + body


def sphere(body: bytes, **fields: object) -> bytes:
    """A SPHERE file; ``fields`` are added to those of 16-bit samples of one channel at 16 kHz."""
    header = {
        "sample_rate": 16000,
        "channel_count": 1,
        "sample_n_bytes": 2,
        "sample_byte_format": "01",
    } | fields
    lines = "".join(
        f"{key} {'-i' if isinstance(value, int) else f'-s{len(str(value))}'} {value}\n"
        for key, value in header.items()
    )
    return f"NIST_1A\n   1024\n{lines}end_head\n".ljust(1024).encode() + body


def id3v2(size: int) -> bytes:
    """A tag with that many bytes of padding."""
    return b"ID3\4\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
