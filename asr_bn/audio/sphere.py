"""NIST SPHERE: PCM here, mu-law and A-law by libsndfile, shortened PCM by FFmpeg (no ``sph2pipe``)."""

import io
import re

import numpy as np

from asr_bn.audio.ffmpeg import decode_with_av
from asr_bn.audio.samples import Decoded, Samples, next_entry

_MAGIC = b"NIST_1A\n"
_COMPANDED = {"ulaw": "ULAW", "mu-law": "ULAW", "alaw": "ALAW", "a-law": "ALAW"}
_MAX_HEADER = 1 << 20
_MAX_DIGITS = 10
_MAX_SHOWN = 40
# Tapes were padded to blocks of this size, in bytes.
_BLOCK = 1024


def decode_sphere(data: bytes, where: str) -> Decoded:
    """Decode to samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency.

    Raises:
        ValueError: cut short, more samples than the header counts, a malformed header, or a coding without
            a decoder; for shorten-compressed mu-law and A-law the message says how to use a pipe.
    """
    header, size = _parse_header(data, where)
    coding, _, compression = header.get("sample_coding", "pcm").lower().partition(",")
    num_channels = _positive(header, "channel_count", where)
    frequency = _positive(header, "sample_rate", where)
    if compression:
        samples = _decode_compressed(data, coding, compression, where)
    else:
        samples = _decode_plain(data[size:], coding, header, num_channels, where)
    counted = header.get("sample_count", "0") != "0"  # a stream does not know
    expected = _positive(header, "sample_count", where) if counted else len(samples)
    if samples.shape[1] != num_channels or len(samples) < expected:
        raise ValueError(
            f"{where}: cut short: {expected} samples of {num_channels} channels expected,"
            f" {len(samples)} of {samples.shape[1]} found"
        )
    end = len(data) if compression else size + expected * num_channels * int(header["sample_n_bytes"])
    if len(data) - end > _BLOCK and not next_entry(data, end, (_MAGIC,)):
        raise ValueError(f"{where}: corrupt: sample_count is {expected}, but {len(samples)} samples follow")
    return samples[:expected], frequency


def _parse_header(data: bytes, where: str) -> tuple[dict[str, str], int]:
    found = re.fullmatch(rb"\s*([0-9]+)\s*", data[len(_MAGIC) : 16])
    if found is None:
        raise ValueError(f"{where}: corrupt SPHERE header: no size in it")
    size = int(found[1])
    if not 16 <= size <= min(len(data), _MAX_HEADER):
        raise ValueError(f"{where}: cut short or corrupt: a SPHERE header of {size} bytes")
    fields: dict[str, str] = {}
    for line in data[16:size].decode("latin-1").split("\n"):
        words = line.split(maxsplit=2)
        if words == ["end_head"]:
            return fields, size
        if len(words) == 3:
            fields[words[0]] = words[2].strip()
    raise ValueError(f"{where}: corrupt SPHERE header: no end_head")


def _positive(header: dict[str, str], name: str, where: str) -> int:
    value = header.get(name, "")
    if not re.fullmatch(rf"0*[1-9][0-9]{{0,{_MAX_DIGITS - 1}}}", value):
        raise ValueError(f"{where}: SPHERE header: {name} is {_shown(value)}, expected a positive number")
    return int(value)


def _shown(value: str) -> str:
    return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}...")


def _decode_plain(body: bytes, coding: str, header: dict[str, str], num_channels: int, where: str) -> Samples:
    num_bytes = _positive(header, "sample_n_bytes", where)
    if coding in _COMPANDED and num_bytes == 1:
        flat = _expand(body, _COMPANDED[coding])
    elif coding == "pcm" and num_bytes == 2:
        order = {"01": "<i2", "10": ">i2"}.get(header.get("sample_byte_format", ""))
        if order is None:
            raise ValueError(f"{where}: SPHERE header: sample_byte_format must be 01 or 10")
        flat = np.frombuffer(body[: len(body) // 2 * 2], dtype=order).astype(np.int16)
    else:
        raise ValueError(
            f"{where}: SPHERE coding {_shown(coding)} with {num_bytes} bytes a sample: expected pcm with 2,"
            " ulaw or alaw with 1"
        )
    return flat[: len(flat) // num_channels * num_channels].reshape(-1, num_channels)


def _decode_compressed(data: bytes, coding: str, compression: str, where: str) -> Samples:
    if not compression.startswith("embedded-shorten") or coding != "pcm":
        raise ValueError(
            f"{where}: SPHERE coding {_shown(f'{coding},{compression}')} has no decoder here; write"
            " 'sph2pipe -f wav FILE |' in wav.scp"
        )
    return decode_with_av(data, "nistsphere", where)[0]


def _expand(codes: bytes, subtype: str) -> Samples:
    """Expand mu-law or A-law codes (ITU-T G.711), a byte a sample."""
    import soundfile

    form = {"dtype": "int16", "samplerate": 8000, "channels": 1, "format": "RAW", "subtype": subtype}
    samples: Samples = soundfile.read(io.BytesIO(codes), **form)[0]
    return samples
