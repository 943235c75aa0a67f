"""What all decoders share: their result, samples in int16 range and a rate; their errors, one sentence."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Floats

Samples = NDArray[np.int16] | Floats
Decoded = tuple[Samples, int]
"""Samples ``[num_samples, num_channels]`` in int16 range, and the sample frequency in Hz."""


_KEY = re.compile(rb"[^\s\0]{1,1000} ")


def next_entry(data: bytes, position: int, magic: tuple[bytes, ...]) -> bool:
    """Return whether an archive's next entry begins at ``position``: a key, a blank, then ``magic``."""
    key = _KEY.match(data, position)
    return key is not None and data.startswith(magic, key.end())


def count_parts(where: str, most: int = 100_000) -> Iterator[int]:
    """Count the parts of a file from 0, for a loop that reads their headers.

    Raises:
        ValueError: more than ``most``: a file of tiny parts would take as long as an hour of speech.
    """
    yield from range(most)
    raise ValueError(f"{where}: corrupt: more than {most} parts (chunks, tags, elements)")


def join(parts: Sequence[Decoded], where: str) -> Decoded:
    """Concatenate the streams of one file.

    Raises:
        ValueError: none, or they differ in rate or channels.
    """
    if not parts:
        raise ValueError(f"{where}: no samples in it")
    kinds = [(frequency, samples.shape[1]) for samples, frequency in parts]
    for number, kind in enumerate(kinds[1:], 2):
        if kind != kinds[0]:
            raise ValueError(
                f"{where}: stream {number} in it has {kind[0]} Hz and {kind[1]} channels, the first"
                f" {kinds[0][0]} Hz and {kinds[0][1]}"
            )
    if len(parts) == 1:
        return parts[0]
    samples: Samples = np.concatenate([samples for samples, _ in parts])
    return samples, kinds[0][0]


@contextmanager
def decoder_errors(where: str) -> Iterator[None]:
    """Turn all that a library raises into a ``ValueError`` that begins with ``where``.

    No error of ours may be raised inside.  A ``MemoryError`` passes, since it says nothing about the file.
    FFmpeg's own is turned: there a header asks for more than FFmpeg ever takes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) and not hasattr(error, "strerror"):
            raise
        raise ValueError(f"{where}: cannot be decoded ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Clean a library's message of addresses of objects and numbers of errors."""
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    words = re.sub(r"<[^<>]*>", "...", " ".join(str(words).split()))
    words = re.sub(r"Error number -?\d+ occurred", "an unknown error of the decoder", words)
    return words.removeprefix("Error : ").rstrip(".") or type(error).__name__
