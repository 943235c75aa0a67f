"""Decoding with FFmpeg's libraries (the ``av`` wheel); its demuxer is named, never guessed."""

import io
from typing import TYPE_CHECKING

import numpy as np

from asr_bn.audio.samples import Decoded, Samples, decoder_errors, join

if TYPE_CHECKING:
    from av import AudioFrame

# PyAV finds the end of the planes by a null behind them, which FFmpeg's eighth one lacks.
_MAX_PLANES = 7


def decode_with_av(data: bytes, demuxer: str, where: str) -> Decoded:
    """Decode to samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency.

    A guessed demuxer might take the bytes for a playlist that names other files.

    Raises:
        ValueError: it cannot be decoded, has no audio, has more than 7 channels in planes, or changes its
            rate or channels on the way.
    """
    import av

    blocks: list[Decoded] = []
    num_planes = 1
    with decoder_errors(where), av.open(io.BytesIO(data), mode="r", format=demuxer) as container:
        for frame in container.decode(container.streams.audio[0]) if container.streams.audio else ():
            num_planes = len(frame.layout.channels) if frame.format.is_planar else 1
            if num_planes > _MAX_PLANES:
                break
            blocks.append((_to_int16_range(frame), int(frame.sample_rate)))
    if num_planes > _MAX_PLANES:
        raise ValueError(
            f"{where}: {num_planes} channels in planes, expected at most {_MAX_PLANES}; take one of them"
            " through a pipe in wav.scp"
        )
    return join(blocks, where)


def _to_int16_range(frame: "AudioFrame") -> Samples:
    name, num_channels = frame.format.name, len(frame.layout.channels)
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, num_channels)
    if name in ("s16", "s16p"):
        return np.ascontiguousarray(samples, dtype=np.int16)
    scaled: Samples = samples.astype(np.float32)
    if name in ("u8", "u8p"):
        scaled = (scaled - np.float32(128)) * np.float32(256)
    else:
        scaled = scaled * np.float32(1 / 65536 if name in ("s32", "s32p") else 32768)
    return scaled
