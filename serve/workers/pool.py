"""A pool of worker processes, seen from the server: clients take turns, and what ends is replaced."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from serve.limits.fairness import Gate
from serve.limits.refusal import Refusal
from serve.workers.frames import Answer, Payload
from serve.workers.worker_process import Program, WorkerProcess

T = TypeVar("T")
logger = logging.getLogger("serve")


class WorkerPool:
    """A fixed number of processes, each asked one question at a time; for one event loop.

    Clients take turns.  What is asked is answered to its end, also when the client leaves: else the process
    would have to be started again.

    Args:
        size: how many.
        program: what they run.
        timeout_s: that they may take for a question.
    """

    def __init__(self, size: int, program: Program, timeout_s: float) -> None:
        self._program, self._timeout_s = program, timeout_s
        self._free: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._processes = [WorkerProcess(program) for _ in range(size)]
        self._gate = Gate(size)
        self._tasks: set[asyncio.Task[Any]] = set()

    def wait_until_ready(self) -> None:
        """Wait for the processes to start; before the event loop uses them.

        Raises:
            ValueError: one of them cannot.
        """
        for process in self._processes:
            try:
                is_locked_in = process.wait_until_ready()
            except OSError as error:  # a TimeoutError is one
                raise ValueError(
                    f"a process of {self._program.module} cannot start; what it printed says why"
                ) from error
            self._free.put_nowait(process)
        if not is_locked_in:
            logger.warning("this system cannot keep %s from files and sockets", self._program.module)

    async def _ask(self, head: Mapping[str, object], data: Payload, client: str = "") -> tuple[Answer, bytes]:
        answer, payload = await self._gate.run(client, lambda: self._begin(self._exchange(head, data)))
        if answer["status"] == 500:
            logger.error("%s failed: %s", self._program.module, answer["traceback"])
        if answer["status"] != 200:
            raise Refusal(answer["status"], answer["detail"])
        return answer, payload

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _exchange(self, head: Mapping[str, object], data: Payload) -> tuple[Answer, bytes]:
        process = await self._free.get()
        try:
            return await process.ask(head, data, self._timeout_s)
        finally:
            if process.pid is None:
                revival = self._begin(process.revive())  # before somebody waits for it
                revival.add_done_callback(partial(self._note_revival, process))
            else:
                self._free.put_nowait(process)

    def _note_revival(self, process: WorkerProcess, revival: "asyncio.Task[None]") -> None:
        if not revival.cancelled():
            revival.exception()  # where it could not be started, the next question tries again
        self._free.put_nowait(process)

    def close(self) -> None:
        """End the processes, and what is asked of them."""
        for task in self._tasks:
            task.cancel()
        for process in self._processes:
            process.close()
