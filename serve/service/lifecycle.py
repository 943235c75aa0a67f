"""From ready to the end: no long pauses; then fail readiness first, keep answering, and close."""

import asyncio
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from asr_bn.system.memory import give_back_freed_memory
from serve.service.metrics import MULTIPROCESS_VARIABLE
from serve.service.service import Service
from serve.settings import Settings

# How the names of the supervisor's folders of metrics begin.
METRICS_PREFIX = "asr-bn-metrics-"
# What ending may take beyond the time for requests, before a process that hangs is given up.
_LAST_S = 10.0
# Seldom, as pages that are needed again are cleared again; often, as threads wait for it that allocate.
_GIVE_BACK_S = 15.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def without_long_pauses() -> Iterator[None]:
    """Keep Python from holding up the event loop within it; to be entered when all is loaded.

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
def giving_memory_back() -> Iterator[None]:
    """Give back what was freed, every `_GIVE_BACK_S` within it, so that memory is flat over months."""

    async def give_back_forever() -> None:
        while True:
            await asyncio.sleep(_GIVE_BACK_S)
            await asyncio.to_thread(give_back_freed_memory)

    task = asyncio.ensure_future(give_back_forever())
    try:
        yield
    finally:
        task.cancel()


@contextmanager
def ending_with_supervisor(settings: Settings) -> Iterator[None]:
    """End one of several processes as after SIGTERM when their supervisor was killed.

    Nobody else would end it, and it would keep the port.  It also removes the supervisor's metrics.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        yield
        return

    def end_with_it() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(settings.shutdown_delay_s + settings.grace_s + _LAST_S)
        os._exit(1)

    threading.Thread(target=end_with_it, name="supervisor", daemon=True).start()
    try:
        yield
    finally:
        folder = Path(os.environ.get(MULTIPROCESS_VARIABLE, ""))
        if not supervisor.is_alive() and folder.name.startswith(METRICS_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def watch_for_shutdown(service: Service) -> Iterator[None]:
    """Fail readiness at the first SIGTERM or SIGINT; the server's own handler runs later.

    It runs after ``shutdown_delay_s``, or at once with the second signal.

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
