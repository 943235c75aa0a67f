"""Standard error that no writer waits for: a full disk, or a pipe that nobody reads, touches no answer."""

import atexit
import faulthandler
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

# What waits to be written at most.
_MAX_HELD_BYTES = 1 << 20
# Between two writes, so that a busy server is not interrupted for every line.
_PAUSE_S = 0.02
_EXIT_TIMEOUT_S = 1.0


class DroppingStream(io.TextIOBase):
    """Text that a thread writes to a descriptor; what finds no room is dropped and counted.

    Args:
        descriptor: to write to.
        is_terminal: what `isatty` says.
    """

    def __init__(self, descriptor: int, is_terminal: bool = False) -> None:
        self.on_drop: Callable[[int], None] = lambda num_lines: None
        self._descriptor, self._is_terminal = descriptor, is_terminal
        self._held: list[bytes] = []
        self._size = 0
        self._writing = self._full = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_forever, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        """Take ``text``, or drop it; never wait."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            full = self._full = self._full or self._size + len(data) > _MAX_HELD_BYTES
            if not full:
                self._held.append(data)
                self._size += len(data)
                self._changed.notify()
        if full:
            self.on_drop(data.count(b"\n"))
        return len(text)

    def isatty(self) -> bool:
        """Say whether it is a terminal, which decides on colors."""
        return self._is_terminal

    def drain(self, timeout_s: float) -> None:
        """Wait until all is written, or for ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._held or self._writing), timeout_s)

    def _write_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
                held, self._held, self._size = self._held, [], 0
                self._writing, self._full = True, False
            self._write_now(b"".join(held))
            with self._changed:
                self._writing = False
                self._changed.notify_all()
            time.sleep(_PAUSE_S)

    def _write_now(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.on_drop(bytes(rest).count(b"\n"))


def keep_writers_from_waiting(also_native: bool = True) -> None:
    """Put a `DroppingStream` in the place of ``sys.stderr``; uvicorn's handlers follow.

    Args:
        also_native: also what native code and processes started later write to descriptor 2.  What a crash of
            this process makes the C library say is then lost; Python says where it was.
    """
    usual = sys.stderr
    if isinstance(usual, DroppingStream):
        return
    real = os.dup(usual.fileno()) if usual is not None else os.open(os.devnull, os.O_WRONLY)
    stream = DroppingStream(real, usual is not None and usual.isatty())
    sys.stderr = stream
    for name in (None, "uvicorn", "uvicorn.access"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is usual:
                handler.setStream(stream)
    atexit.register(stream.drain, _EXIT_TIMEOUT_S)
    if also_native and usual is not None:
        _take_descriptor(usual.fileno(), stream, real)


def _take_descriptor(descriptor: int, stream: DroppingStream, real: int) -> None:
    """Read what is written to ``descriptor`` as fast as it comes, and hand it to ``stream``."""
    source, sink = os.pipe()
    os.dup2(sink, descriptor)
    os.close(sink)
    faulthandler.enable(real)

    def read_forever() -> None:
        while data := os.read(source, 1 << 16):
            stream.write(data.decode("utf-8", "backslashreplace"))

    reader = threading.Thread(target=read_forever, name="native log", daemon=True)
    reader.start()

    @atexit.register
    def give_back() -> None:
        os.dup2(real, descriptor)  # the last of the pipe's writers, if no process is left
        reader.join(_EXIT_TIMEOUT_S / 10)


def report_drops(to: Callable[[int], None]) -> None:
    """Let ``to`` be called with the number of lines whenever some of standard error's are dropped."""
    if isinstance(sys.stderr, DroppingStream):
        sys.stderr.on_drop = to
