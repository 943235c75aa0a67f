"""The processes that read audio and large JSON, seen from the server: a pool that replaces what dies."""

import asyncio
import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.fbank import FbankOptions
from serve.front_end_worker import GREETING, SIZES, Head, frame
from serve.pipes import read_exactly, write_all
from serve.refusal import Refusal
from serve.tensors import InferRequest, TensorSpec, unpack_request

START_TIMEOUT_S = 60.0
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class AudioLimits:
    """What one audio file may cost."""

    max_seconds: float = 120.0
    timeout_s: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class AudioFeatures:
    """Features ``[num_frames, num_features]`` of an audio file, its length and what they cost."""

    feats: NDArray[np.float32]
    audio_s: float
    decode_s: float
    features_s: float


class WorkerDied(Exception):
    """The process ended, or was ended because it took too long."""


class FrontEndPool:
    """A fixed number of front end processes, each serving one body at a time; for one event loop."""

    def __init__(self, size: int, limits: AudioLimits) -> None:
        self.limits = limits
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers = [_Worker(limits.memory_bytes) for _ in range(size)]
        self._exchanges: set[asyncio.Future[tuple[Head, bytes]]] = set()

    def wait_until_ready(self) -> None:
        """Wait for the processes to start; before the event loop uses them.

        Raises:
            ValueError: one of them cannot.
        """
        for worker in self._workers:
            try:
                worker.greet(time.monotonic() + START_TIMEOUT_S)
            except OSError as error:  # a TimeoutError is one
                raise ValueError(
                    "a process that decodes audio cannot start; what it printed says why"
                ) from error
            self._free.put_nowait(worker)

    async def features(
        self, data: bytes, options: FbankOptions, delta_order: int, channel: int | None = None
    ) -> AudioFeatures:
        """Decode ``data`` and compute its features.

        Raises:
            Refusal: 415 not audio, 422 broken, 413 too long or in need of too much time or memory.
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
        """`serve.tensors.read_request` in one of the processes.

        Raises:
            Refusal: as there, or 413 it needs too much time or memory.
        """
        described = [spec.describe() for spec in specs]
        head = {"task": "tensors", "json_size": json_size, "specs": described}
        answer, payload = await self._ask(head, body)
        return unpack_request(answer, payload)

    async def _ask(self, head: Head, data: bytes) -> tuple[Head, bytes]:
        worker = await self._free.get()
        # It goes on when the client leaves: the process has to be asked to the end, or started again.
        exchange = asyncio.ensure_future(self._exchange(worker, head, data))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._note_end)
        answer, payload = await asyncio.shield(exchange)
        if answer["status"] != 200:
            raise Refusal(answer["status"], answer["detail"])
        return answer, payload

    async def _exchange(self, worker: "_Worker", head: Head, data: bytes) -> tuple[Head, bytes]:
        try:
            return await worker.ask(head, data, self.limits.timeout_s)
        except WorkerDied as error:
            raise Refusal(
                413, f"the body could not be decoded within this server's limits ({error})"
            ) from error
        finally:
            self._free.put_nowait(worker)

    def _note_end(self, exchange: "asyncio.Future[tuple[Head, bytes]]") -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # nobody else looks at it where the client has left

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    """A process, started again when it has died."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        process = subprocess.Popen(
            # -P: no module of the folder that the server happens to be started in.
            [sys.executable, "-P", "-m", "serve.front_end_worker", str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | single | {"PYTHONPATH": _python_path()},
            bufsize=0,
            # Ctrl-C in a terminal goes to the whole group; the server ends its workers when it is done.
            start_new_session=True,
        )
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            _widen(stream)
        return process

    async def ask(self, head: Head, data: bytes, timeout_s: float) -> tuple[Head, bytes]:
        """Its answer to a frame.

        Raises:
            WorkerDied: it has none within ``timeout_s``, or ended.
        """
        try:
            if self._process.poll() is not None:
                await asyncio.to_thread(self._restart)
            async with asyncio.timeout(timeout_s):
                return await self._exchange(head, data)
        except TimeoutError as error:
            self.stop()
            raise WorkerDied(f"more than {timeout_s:g} s") from error
        except (OSError, EOFError) as error:
            self.stop()
            raise WorkerDied("the decoder gave up") from error

    def _restart(self) -> None:
        self._process = self._start()
        self.greet(time.monotonic() + START_TIMEOUT_S)

    def greet(self, until: float) -> None:
        """Wait for the process to say that it has started."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        readable = select.poll()  # unlike select, for descriptors of any number
        readable.register(descriptor, select.POLLIN)
        if not readable.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        greeting = os.read(descriptor, len(GREETING))  # so little comes as a whole, or not at all
        if greeting != GREETING:
            raise OSError(f"it said {greeting!r}, expected {GREETING!r}")

    async def _exchange(self, head: Head, data: bytes) -> tuple[Head, bytes]:
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None and sink is not None
        await write_all(sink.fileno(), frame(head, data))
        descriptor = source.fileno()
        head_size, payload_size = SIZES.unpack(await read_exactly(descriptor, SIZES.size))
        answer = json.loads(await read_exactly(descriptor, head_size))
        return answer, await read_exactly(descriptor, payload_size)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _widen(stream: IO[bytes]) -> None:
    """Let a pipe hold an utterance, where the system can: both ends wake up once, not every 64 kB."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _python_path() -> str:
    """Where this package is, installed or not, before what the environment says."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
