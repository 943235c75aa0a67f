"""The processes that read audio and large JSON, seen from the server: a pool that replaces what ends."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from serve.formats.tensors import InferRequest, TensorSpec, unpack_request
from serve.limits.refusal import Refusal
from serve.workers.audio_worker import Head
from serve.workers.audio_worker_process import FrontEndProcess

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


class FrontEndPool:
    """A fixed number of front end processes, each serving one body at a time; for one event loop."""

    def __init__(self, size: int, limits: AudioLimits) -> None:
        self.limits = limits
        self._free: asyncio.Queue[FrontEndProcess] = asyncio.Queue()
        self._processes = [FrontEndProcess(limits.memory_bytes) for _ in range(size)]
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
        self, data: bytes, options: FbankOptions, delta_order: int, channel: int | None = None
    ) -> AudioFeatures:
        """Decode ``data`` and compute its features.

        Raises:
            Refusal: 415 not audio, 422 broken, 413 too long or in need of too much time or memory,
                503 no process could decode it, through no fault of its own.
        """
        head = {
            "task": "features",
            "fbank": vars(options),
            "delta_order": delta_order,
            "max_seconds": self.limits.max_seconds,
            "channel": channel,
        }
        answer, payload = await self._ask(head, data)
        feats = np.frombuffer(payload, np.float32).reshape(answer["num_frames"], answer["num_features"])
        return AudioFeatures(feats, answer["audio_s"], answer["decode_s"], answer["features_s"])

    async def tensors(self, body: bytes, json_size: str | None, specs: list[TensorSpec]) -> InferRequest:
        """`serve.formats.tensors.read_request` in one of the processes.

        Raises:
            Refusal: as there, 413 it needs too much time or memory, or 503 as in :meth:`features`.
        """
        described = [spec.describe() for spec in specs]
        head = {"task": "tensors", "json_size": json_size, "specs": described}
        answer, payload = await self._ask(head, body)
        return unpack_request(answer, payload)

    async def _ask(self, head: Head, data: bytes) -> tuple[Head, bytes]:
        process = await self._free.get()
        # It goes on when the client leaves: the process has to be asked to the end, or started again.
        exchange = asyncio.ensure_future(process.ask(head, data, self.limits.timeout_s))
        self._tasks.add(exchange)
        exchange.add_done_callback(partial(self._take_back, process))
        answer, payload = await asyncio.shield(exchange)
        if answer["status"] == 500:
            logger.error("a body could not be read: %s", answer["traceback"])
        if answer["status"] != 200:
            raise Refusal(answer["status"], answer["detail"])
        return answer, payload

    def _take_back(self, process: FrontEndProcess, exchange: "asyncio.Task[tuple[Head, bytes]]") -> None:
        self._tasks.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # nobody else looks at it where the client has left
        if process.pid is not None:
            self._free.put_nowait(process)
            return
        revival = asyncio.ensure_future(process.revive())  # before somebody waits for it
        self._tasks.add(revival)
        revival.add_done_callback(partial(self._note_revival, process))

    def _note_revival(self, process: FrontEndProcess, revival: "asyncio.Task[None]") -> None:
        self._tasks.discard(revival)
        if not revival.cancelled():
            revival.exception()  # where it could not be started, the next question tries again
        self._free.put_nowait(process)

    def close(self) -> None:
        """End the processes, and what is asked of them."""
        for task in self._tasks:
            task.cancel()
        for process in self._processes:
            process.close()
