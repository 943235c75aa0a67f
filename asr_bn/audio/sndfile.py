"""Decoding with libsndfile, or with FFmpeg where libsndfile has no decoder."""

import io

import numpy as np

from asr_bn.audio.ffmpeg import decode_with_av
from asr_bn.audio.samples import Decoded, Samples, decoder_errors

_BLOCK = 1 << 20
# No coding packs more samples into a byte: FLAC puts up to 65,535 of silence into some 14.
_MAX_SAMPLES_PER_BYTE = 8192
# Float samples reach 1.  Values a hundred times as large are in int16 range, which must not be scaled again.
_MAX_FLOAT = 128.0


def decode_with_sndfile(
    data: bytes, where: str, demuxer: str | None = None, expected: range | None = None
) -> Decoded:
    """Decode to samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency.

    Args:
        demuxer: FFmpeg's name of the format, for codings that libsndfile does not know.
        expected: the known number of samples, where libsndfile can only estimate it; FFmpeg decodes the file
            if the estimate lies outside.

    Raises:
        ValueError: it cannot be decoded, is cut short, or has float samples in the int16 range.
    """
    import soundfile

    stream = io.BytesIO(data)
    try:
        with decoder_errors(where):
            file = soundfile.SoundFile(stream)
    except ValueError:
        if demuxer is None:
            raise
        return decode_with_av(data, demuxer, where)
    with file:
        promised, frequency, subtype = file.frames, int(file.samplerate), file.subtype
        if expected is not None and promised not in expected and demuxer is not None:
            return decode_with_av(data, demuxer, where)
        if promised > _MAX_SAMPLES_PER_BYTE * len(data):
            raise ValueError(f"{where}: corrupt: {promised} samples promised by {len(data)} bytes")
        with decoder_errors(where):
            samples = _read(file, "int16" if subtype == "PCM_16" else "float32")
    if len(samples) < promised:
        raise ValueError(f"{where}: cut short: {promised} samples expected, {len(samples)} found")
    if subtype in ("FLOAT", "DOUBLE"):
        _check_range(samples, where)
    return (samples if subtype == "PCM_16" else samples * np.float32(32768)), frequency


def _read(file: "soundfile.SoundFile", dtype: str) -> Samples:  # type: ignore[name-defined]  # noqa: F821
    """Read all samples, in blocks if the file cannot seek (GSM, G.721): their number is then a guess."""
    if file.seekable():
        samples: Samples = file.read(dtype=dtype, always_2d=True)
        return samples
    blocks = [file.read(_BLOCK, dtype=dtype, always_2d=True)]
    while len(blocks[-1]) == _BLOCK:
        blocks.append(file.read(_BLOCK, dtype=dtype, always_2d=True))
    joined: Samples = np.concatenate(blocks)
    return joined


def _check_range(samples: Samples, where: str) -> None:
    peak = float(np.fmax.reduce(np.abs(samples), axis=None, initial=0))
    if peak > _MAX_FLOAT:
        raise ValueError(f"{where}: float samples up to {peak:g}, expected -1 to 1 (the int16 range?)")
