"""One process that works for clients, seen from the server: in step with it, or ended."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from serve.limits.refusal import Refusal
from serve.workers.frames import GREETINGS, HEADER, MAX_HEAD_BYTES, Answer, Payload, frame
from serve.workers.pipes import read_exactly, write_all

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 2.0
_PIPE_BYTES = 1 << 20
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

logger = logging.getLogger("serve")


class NotAsked(Exception):
    """The process ended before it had the question, or answered another one: it can be asked again."""


@dataclass(frozen=True)
class Program:
    """What a process runs.

    Attributes:
        module: run as ``python -m``.
        memory_bytes: what it may use, its first argument.
        verb, done, thing: what it does to what, for sentences: it is to decode the body, which is decoded.
        descriptor: of a file that it inherits, its second argument; None: of none.
    """

    module: str
    memory_bytes: int
    verb: str = "decode"
    done: str = "decoded"
    thing: str = "the body"
    descriptor: int | None = None

    def unavailable(self) -> Refusal:
        """Return the refusal of what no process can do now, through no fault of the client."""
        detail = f"no process can {self.verb} {self.thing} at the moment"
        return Refusal(503, detail, {"retry-after": "1"})

    def beyond_limits(self, why: str) -> Refusal:
        """Return the refusal of what exceeds the limits of a process."""
        return Refusal(413, f"{self.thing} could not be {self.done} within this server's limits ({why})")


class WorkerProcess:
    """A process, started again when it has ended; it is asked one question at a time.

    Whatever interrupts a question ends the process: an answer left in its pipe would be the next client's.

    Args:
        program: what it runs.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = spawn(program)

    @property
    def pid(self) -> int | None:
        """Its process id, None where it was ended."""
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor been ended."""
        return self._process is not None and self._process.poll() is None

    def wait_until_ready(self) -> bool:
        """Wait for it to start, before it is asked anything; say whether it is locked in (`lockdown`).

        Raises:
            OSError: it cannot start.
        """
        assert self._process is not None
        return wait_for_greeting(self._process)

    async def ask(self, head: Mapping[str, object], data: Payload, timeout_s: float) -> tuple[Answer, bytes]:
        """Ask the process, and return its answer: a head and a payload.

        Raises:
            Refusal: 413 it worked on the question for longer than ``timeout_s``, or ended over it;
                503 it was ended from outside, had no time to compute, or cannot be started.
        """
        for _ in range(2):
            await self.revive()
            with contextlib.suppress(NotAsked):
                return await self._ask(head, data, timeout_s)
        raise self._program.unavailable()

    async def revive(self) -> None:
        """Start it again if it has ended.

        Raises:
            Refusal: 503 it cannot be started.
        """
        if self.is_running:
            return
        try:
            await asyncio.to_thread(self._start_again)
        except (OSError, RuntimeError) as error:  # no process, or not even a thread that waits for it
            logger.warning("a process of %s cannot be started: %s", self._program.module, error)
            raise self._program.unavailable() from error

    def close(self) -> None:
        """End it for good."""
        self._closed.set()
        self._end()

    def _start_again(self) -> None:
        with self._starting:  # one start at a time: that of a client who left is the next one's
            if self.is_running:
                return
            self._end()
            if self._closed.is_set():
                raise OSError("the server is closing")
            process = spawn(self._program)
            try:
                wait_for_greeting(process)
            except BaseException:
                end(process)
                raise
            self._process = process
            if self._closed.is_set():
                self._end()
                raise OSError("the server is closing")

    async def _ask(self, head: Mapping[str, object], data: Payload, timeout_s: float) -> tuple[Answer, bytes]:
        process, number = self._process, secrets.randbits(64)
        assert process is not None and process.stdin is not None
        in_step = has_question = False
        cpu_s = cpu_seconds(process)
        try:
            async with asyncio.timeout(timeout_s):
                for part in frame(number, head, data):
                    await write_all(process.stdin.fileno(), part)
                has_question = True
                answer = await self._answer(process, number)
            in_step = True
            return answer
        except TimeoutError as error:
            is_at_fault = has_question and cpu_seconds(process) - cpu_s >= timeout_s / 2
            if is_at_fault:
                raise self._program.beyond_limits(f"more than {timeout_s:g} s") from error
            raise self._program.unavailable() from error
        except (OSError, EOFError) as error:
            if not has_question:
                raise NotAsked from error
            raise await _why_it_ended(process, self._program) from error
        except MemoryError as error:
            raise self._program.unavailable() from error
        finally:
            if not in_step:
                self._end()

    async def _answer(self, process: "subprocess.Popen[bytes]", number: int) -> tuple[Answer, bytes]:
        assert process.stdout is not None
        source = process.stdout.fileno()
        answered, head_size, payload_size = HEADER.unpack(await read_exactly(source, HEADER.size))
        if answered != number or head_size > MAX_HEAD_BYTES or payload_size > self._program.memory_bytes:
            raise NotAsked
        head = json.loads(await read_exactly(source, head_size))
        return head, await read_exactly(source, payload_size)

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            end(process)


def spawn(program: Program) -> "subprocess.Popen[bytes]":
    """Start a process, which then has to greet.

    Raises:
        OSError: no process, memory or descriptor is left for it.
    """
    inherited = [] if program.descriptor is None else [program.descriptor]
    arguments = map(str, [program.memory_bytes, *inherited])
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        # -P: no module of the folder that the server happens to be started in.
        [sys.executable, "-P", "-m", program.module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | single | {"PYTHONPATH": _python_path()},
        bufsize=0,
        pass_fds=inherited,
        # Ctrl-C in a terminal goes to the whole group; the server ends its workers when it is done.
        start_new_session=True,
    )
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        _widen(stream)
    return process


def wait_for_greeting(process: "subprocess.Popen[bytes]") -> bool:
    """Wait for a new process to say that it has started, and whether it is locked in.

    Raises:
        OSError: it ended, said something else, or nothing for ``START_TIMEOUT_S`` (a TimeoutError).
    """
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    readable = select.poll()  # unlike select, for descriptors of any number
    readable.register(descriptor, select.POLLIN)
    if not readable.poll(START_TIMEOUT_S * 1000):
        raise TimeoutError
    greeting = os.read(descriptor, max(map(len, GREETINGS)))  # so little comes as a whole, or not at all
    if greeting not in GREETINGS:
        raise OSError(f"it said {greeting!r}, expected a greeting")
    return GREETINGS[greeting]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and close its pipes."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    # One that is slow to end must not keep the event loop waiting; the end of the server does, for no zombie.
    with contextlib.suppress(RuntimeError):  # no thread is left for it; Python looks after it later
        threading.Thread(target=process.wait).start()


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Return the seconds that a process has computed, where Linux tells; else those that have passed.

    Little of it within a time limit means that the machine was busy, or the process stopped.
    """
    if sys.platform != "linux":
        return time.monotonic()
    try:
        return time.clock_gettime(~process.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it
    except OSError:  # it has ended
        return 0.0


async def _why_it_ended(process: "subprocess.Popen[bytes]", program: Program) -> Refusal:
    try:
        status = await asyncio.to_thread(process.wait, END_TIMEOUT_S)
    except (subprocess.TimeoutExpired, RuntimeError):
        return program.unavailable()
    logger.warning("a process of %s ended with status %d", program.module, status)
    if -status in _FROM_OUTSIDE:
        return program.unavailable()
    return program.beyond_limits("the process gave up")


def _widen(stream: IO[bytes]) -> None:
    """Let a pipe hold an utterance, where the system can: both ends wake up once, not every 64 kB."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _python_path() -> str:
    """Where this package is, installed or not, before what the environment says."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
