"""From ready to the end: no long pauses; then fail readiness first, keep answering, and close."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from serve.service import Service

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def without_long_pauses() -> Iterator[None]:
    """Within it, Python does not keep the event loop waiting for long; to be entered when all is loaded.

    A thread that computes lets go of the interpreter after a millisecond, not after five.  And what is there
    already (modules, application, models) is left out of garbage collections: going through it took 60 ms,
    in which nothing was answered.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(usual)


@contextmanager
def watch_for_shutdown(service: Service) -> Iterator[None]:
    """Within it, the first SIGTERM or SIGINT fails readiness; the server's own handler runs
    ``shutdown_delay_s`` later, or at once with the second signal.

    The delay gives load balancers time to look elsewhere, and clients with open connections an answer
    that says ``connection: close`` instead of a broken connection.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a test client; signals belong to the main thread
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in previous.items():
        if callable(handler):
            signal.signal(number, _delayed(service, loop, handler))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _delayed(
    service: Service, loop: asyncio.AbstractEventLoop, handler: Callable[[int, FrameType | None], Any]
) -> Callable[[int, FrameType | None], None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        delay_s = 0.0 if service.draining else service.settings.shutdown_delay_s
        service.draining = True
        loop.call_soon_threadsafe(loop.call_later, delay_s, handler, number, None)

    return on_signal
