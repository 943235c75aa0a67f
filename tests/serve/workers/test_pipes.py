"""Pipes read and written from the event loop: what comes out is what went in."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from serve.workers.pipes import read_exactly, write_all

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    source, sink = os.pipe()
    for descriptor in (source, sink):
        os.set_blocking(descriptor, False)
    yield source, sink
    for descriptor in (source, sink):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(descriptor)


def test_more_than_a_pipe_holds_arrives_in_parts_of_any_size(pipe):
    source, sink = pipe
    data = os.urandom(3_000_000)

    async def run() -> list[bytes]:
        writing = asyncio.ensure_future(write_all(sink, data))
        parts = [await read_exactly(source, size) for size in (1, 0, 70_000, 2_000_000)]
        parts.append(await read_exactly(source, len(data) - 2_070_001))
        await writing
        return parts

    assert b"".join(asyncio.run(run())) == data


def test_the_end_before_all_has_come_is_an_error(pipe):
    source, sink = pipe
    os.write(sink, b"abc")
    os.close(sink)
    with pytest.raises(EOFError):
        asyncio.run(read_exactly(source, 4))


def test_nobody_who_reads_is_an_error(pipe):
    source, sink = pipe
    os.close(source)
    with pytest.raises(BrokenPipeError):
        asyncio.run(write_all(sink, b"abc"))


def test_giving_up_leaves_nothing_behind(pipe):
    """A later reader of the same descriptor is woken, not the one that gave up."""
    source, sink = pipe

    async def run() -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await read_exactly(source, 1)
        reading = asyncio.ensure_future(read_exactly(source, 3))
        await asyncio.sleep(0)
        os.write(sink, b"abc")
        return await reading

    assert asyncio.run(run()) == b"abc"
