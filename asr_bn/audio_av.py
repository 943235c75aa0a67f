"""Decoding with FFmpeg's libraries (the ``av`` wheel); its demuxer is named, never guessed."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16] | NDArray[np.float32]


def decode_with_av(data: bytes, demuxer: str, where: str) -> tuple[Samples, int]:
    """Samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency.

    Naming the demuxer matters: one left to guess may take the bytes for a playlist that names other files.

    Raises:
        ValueError: it cannot be decoded, or has no audio in it.
    """
    import av

    try:
        with av.open(io.BytesIO(data), mode="r", format=demuxer) as container:
            if not container.streams.audio:
                raise ValueError(f"{where}: no audio in it")
            stream = container.streams.audio[0]
            blocks = [_to_int16_range(frame) for frame in container.decode(stream)]
            frequency = int(stream.codec_context.sample_rate)
    except (av.error.FFmpegError, MemoryError) as error:
        raise ValueError(f"{where}: cannot be decoded as {demuxer} ({error})") from error
    if not blocks:
        raise ValueError(f"{where}: no samples in it")
    samples: Any = np.concatenate(blocks)
    return samples, frequency


def _to_int16_range(frame: Any) -> Samples:
    name, num_channels = frame.format.name, len(frame.layout.channels)
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, num_channels)
    if name in ("s16", "s16p"):
        return np.ascontiguousarray(samples, dtype=np.int16)
    scaled: NDArray[np.float32] = samples.astype(np.float32)
    if name in ("u8", "u8p"):
        scaled = (scaled - np.float32(128)) * np.float32(256)
    else:
        scaled *= np.float32(1 / 65536 if name in ("s32", "s32p") else 32768)
    return scaled
