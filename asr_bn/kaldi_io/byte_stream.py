"""Reading exact numbers of bytes from a stream, gzip streams too, with errors that name what was read."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_READ_BLOCK = 1 << 20


@contextmanager
def gzip_errors(name: str) -> Iterator[None]:
    """Turn the errors of a cut or corrupt gzip file into a ``ValueError`` that begins with ``name``."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: gzip file cut short or corrupt ({error})") from error


def read_exact(stream: IO[bytes], num_bytes: int, where: str) -> bytes:
    """Read exactly ``num_bytes`` bytes, without allocating much more than the stream holds.

    Raises:
        ValueError: the stream ends earlier (``where`` names file and utterance).
    """
    if num_bytes <= _READ_BLOCK:
        with gzip_errors(where):
            data = stream.read(num_bytes)
        if len(data) != num_bytes:
            raise ValueError(f"{where}: cut short: expected {num_bytes} more bytes, found {len(data)}")
        return data
    buffer = io.BytesIO()
    while buffer.tell() < num_bytes:
        with gzip_errors(where):
            block = stream.read(min(_READ_BLOCK, num_bytes - buffer.tell()))
        if not block:
            raise ValueError(f"{where}: cut short: expected {num_bytes} more bytes, found {buffer.tell()}")
        buffer.write(block)
    return buffer.getvalue()


def read_until(stream: IO[bytes], mark: bytes, most_bytes: int, where: str) -> bytes:
    """Read up to and including the byte ``mark``; return what stands before it.

    Raises:
        ValueError: no mark before the stream's end, or within ``most_bytes``.
    """
    data = bytearray()
    with gzip_errors(where):
        while len(data) < most_bytes:
            ahead = peek(stream)
            block = stream.read(ahead.find(mark) + 1 or len(ahead) or 1)
            data += block
            if block.endswith(mark):
                return bytes(data[:-1])
            if not block:
                break
    raise ValueError(f"{where}: cut short: found no {mark.decode()!r} in {len(data)} bytes")


def peek(stream: IO[bytes]) -> bytes:
    """Return some of the next bytes without consuming them; none at the end, or if the stream cannot peek."""
    look_ahead = getattr(stream, "peek", None)
    return b"" if look_ahead is None else bytes(look_ahead(1))
