"""A connection's transport that sends together what is written together."""

import asyncio

# So much goes at once, as uvicorn waits for slow readers from there on (its HIGH_WATER_LIMIT).
_MOST_HELD = 1 << 16


class JoinedWrites:
    """Holds what is written until it is much, or the event loop goes on, and sends it with one system call.

    uvicorn writes the head of an answer and each piece of its body on their own.  A client on the same
    machine wakes up for the head, finds nothing else and takes the processor from the server.  Of an answer
    of 4 MB that was 0.7 of the 3.6 ms that a client waited beyond the computation (``bench/serve.py``).

    Args:
        transport: what to send with; all but writing and closing is its own.
        loop: the event loop of both.
        close_timeout_s: how long a client may take to read what was written before the end.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close_timeout_s: float
    ) -> None:
        self._transport, self._loop, self._close_timeout_s = transport, loop, close_timeout_s
        self._held: list[bytes | memoryview] = []
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``, soon and in order."""
        if not data:
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= _MOST_HELD:
            self._flush()

    def write_eof(self) -> None:
        """Say that nothing follows what has been written."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Close when what has been written is sent, or ``close_timeout_s`` are over."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._close_timeout_s, self._transport.abort)

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)

    def __getattr__(self, name: str) -> object:
        attribute: object = getattr(self._transport, name)
        return attribute
