"""Reading and writing pipes from the event loop, without a thread."""

import asyncio
import os
from collections.abc import Callable

_AT_ONCE = 1 << 20


async def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write ``data`` to a descriptor that does not block.

    Raises:
        OSError: nobody reads.
    """
    loop = asyncio.get_running_loop()
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, descriptor)


async def read_exactly(descriptor: int, size: int) -> bytes:
    """Read ``size`` bytes of a descriptor that does not block.

    Raises:
        EOFError: the other end closed first.
    """
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    while size:
        try:
            chunk = os.read(descriptor, min(size, _AT_ONCE))
        except BlockingIOError:
            await _ready(loop.add_reader, loop.remove_reader, descriptor)
            continue
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


async def _ready(
    watch: Callable[[int, Callable[[], None]], None], unwatch: Callable[[int], bool], descriptor: int
) -> None:
    ready = asyncio.get_running_loop().create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    watch(descriptor, on_ready)
    try:
        await ready
    finally:
        unwatch(descriptor)
