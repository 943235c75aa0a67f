"""The processes that read audio and large JSON, seen from the server: a pool that replaces what ends."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from serve.formats.tensors import InferRequest, TensorSpec, unpack_request
from serve.limits.fairness import Gate
from serve.limits.refusal import Refusal
from serve.workers.audio_worker import Answer, FeaturesTask, Task, TensorsTask
from serve.workers.audio_worker_process import AudioWorkerProcess

T = TypeVar("T")
logger = logging.getLogger("serve")


@dataclass(frozen=True)
class AudioLimits:
    """What one audio file may cost."""

    max_seconds: float = 120.0
    timeout_s: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class AudioFeatures:
    """Features ``[num_frames, num_features]`` of an audio file, its length and what they cost."""

    feats: Floats
    audio_s: float
    decode_s: float
    features_s: float


class AudioWorkers:
    """A fixed number of audio processes, each serving one body at a time; for one event loop.

    Clients take turns.  What is asked is answered to its end, also when the client leaves: else the process
    would have to be started again.
    """

    def __init__(self, size: int, limits: AudioLimits) -> None:
        self.limits = limits
        self._free: asyncio.Queue[AudioWorkerProcess] = asyncio.Queue()
        self._processes = [AudioWorkerProcess(limits.memory_bytes) for _ in range(size)]
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
                    "a process that decodes audio cannot start; what it printed says why"
                ) from error
            self._free.put_nowait(process)
        if not is_locked_in:
            logger.warning("this system cannot keep the processes that decode audio from files and sockets")

    async def features(
        self,
        data: bytes,
        options: FbankOptions,
        delta_order: int,
        channel: int | None = None,
        client: str = "",
    ) -> AudioFeatures:
        """Decode ``data`` of ``client`` and compute its features.

        Raises:
            Refusal: 415 not audio, 422 broken, 413 too long or in need of too much time or memory,
                503 no process could decode it, through no fault of its own.
        """
        head: FeaturesTask = {
            "task": "features",
            "fbank": vars(options),
            "delta_order": delta_order,
            "max_seconds": self.limits.max_seconds,
            "channel": channel,
        }
        answer, payload = await self._ask(head, data, client)
        feats = np.frombuffer(payload, np.float32).reshape(answer["num_frames"], answer["num_features"])
        return AudioFeatures(feats, answer["audio_s"], answer["decode_s"], answer["features_s"])

    async def tensors(
        self, body: bytes, json_size: str | None, specs: list[TensorSpec], client: str = ""
    ) -> InferRequest:
        """Call `serve.formats.tensors.read_request` in one of the processes.

        Raises:
            Refusal: as there, 413 it needs too much time or memory, or 503 as in :meth:`features`.
        """
        described = [spec.describe() for spec in specs]
        head: TensorsTask = {"task": "tensors", "json_size": json_size, "specs": described}
        answer, payload = await self._ask(head, body, client)
        return unpack_request(answer["request"], payload)

    async def _ask(self, head: Task, data: bytes, client: str = "") -> tuple[Answer, bytes]:
        answer, payload = await self._gate.run(client, lambda: self._begin(self._exchange(head, data)))
        if answer["status"] == 500:
            logger.error("a body could not be read: %s", answer["traceback"])
        if answer["status"] != 200:
            raise Refusal(answer["status"], answer["detail"])
        return answer, payload

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _exchange(self, head: Task, data: bytes) -> tuple[Answer, bytes]:
        process = await self._free.get()
        try:
            return await process.ask(head, data, self.limits.timeout_s)
        finally:
            if process.pid is None:
                revival = self._begin(process.revive())  # before somebody waits for it
                revival.add_done_callback(partial(self._note_revival, process))
            else:
                self._free.put_nowait(process)

    def _note_revival(self, process: AudioWorkerProcess, revival: "asyncio.Task[None]") -> None:
        if not revival.cancelled():
            revival.exception()  # where it could not be started, the next question tries again
        self._free.put_nowait(process)

    def close(self) -> None:
        """End the processes, and what is asked of them."""
        for task in self._tasks:
            task.cancel()
        for process in self._processes:
            process.close()
