"""Calls that run, the threads they run in, and whose they are."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from asr_bn.system.arrays import Floats
from serve.batching.batch_policy import Ticket

# Added to the nice value: a tenth of the processor's time where others want it.
_NICE = 10
# Who asks again and again has not left between two requests.
_LATELY_S = 1.0


@dataclass(eq=False)
class Call:
    """A batch that runs, since when and for about how long, and whether it yields the processor to others."""

    batch: list[Ticket]
    started: float
    expected_s: float
    yields: bool

    @property
    def num_threads(self) -> int:
        """Return how many threads it takes."""
        return self.batch[0].scorer.num_threads

    @property
    def clients(self) -> set[str]:
        """Return whose utterances are in it."""
        return {ticket.client for ticket in self.batch}


def threads_alone(calls: Sequence[Call], client: str) -> int:
    """Count the threads of ``calls`` that have utterances of ``client`` alone."""
    return sum(call.num_threads for call in calls if call.clients == {client})


class CallThreads:
    """Threads for calls; a call that yields gets the processor when nothing else of the server wants it.

    Args:
        size: calls at a time of each kind.
    """

    def __init__(self, size: int) -> None:
        self._usual = ThreadPoolExecutor(size, "onnxruntime")
        self._yielding = ThreadPoolExecutor(size, "onnxruntime-nice", _be_nice)

    def begin(self, call: Call) -> "asyncio.Future[list[Floats]]":
        """Compute ``call`` in a thread and return the future of its answers.

        Raises:
            RuntimeError, MemoryError: the system has no thread for it.
        """
        executor = self._yielding if call.yields else self._usual
        feats = [ticket.feats for ticket in call.batch]
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(executor, call.batch[0].scorer.log_posteriors, feats)

    def shutdown(self) -> None:
        """Finish what was begun and end the threads."""
        self._usual.shutdown()
        self._yielding.shutdown()


def _be_nice() -> None:
    # Only Linux gives threads priorities of their own; elsewhere, and where a sandbox forbids it, a yielding
    # call is as any other.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICE)


class Lately:
    """Which clients have asked within the last second; the last two are enough to know."""

    def __init__(self) -> None:
        self._last, self._last_at = "", float("-inf")
        self._other_at = float("-inf")

    def note(self, client: str) -> None:
        """Record that ``client`` asks."""
        if client != self._last:
            self._last, self._other_at = client, self._last_at
        self._last_at = time.monotonic()

    def others(self, client: str) -> bool:
        """Say whether any other client than ``client`` has asked lately."""
        at = self._other_at if client == self._last else self._last_at
        return time.monotonic() - at < _LATELY_S
