"""In step or ended: whatever strikes while a process is asked, the next client gets the answer to its own
question.  The process here is a small one that answers with what it was sent."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from serve.limits.refusal import Refusal
from serve.workers import pipes, worker_process
from serve.workers.audio_workers import AudioLimits, AudioWorkers
from serve.workers.worker_process import Program, WorkerProcess

ECHO = """
import os, struct, time
source = os.fdopen(0, "rb")
os.write(1, b"limits\\n")
while header := source.read(20):
    number, head_size, payload_size = struct.unpack("<QIQ", header)
    source.read(head_size)
    payload = source.read(payload_size)
    head = b'{"status": 200}'
    number += payload.startswith(b"wrong number")
    answer = struct.pack("<QIQ", number, len(head), len(payload)) + head + payload
    for start in range(0, len(answer), 24):
        os.write(1, answer[start : start + 24])
        time.sleep(0.0005)
"""
PROGRAM = Program("echo", 1 << 30)


def spawn_echo(program: Program, code: str = ECHO) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
    return process


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[AudioWorkers]:
    monkeypatch.setattr(worker_process, "spawn", spawn_echo)
    monkeypatch.setattr(worker_process, "END_TIMEOUT_S", 0.2)
    pool = AudioWorkers(1, AudioLimits())
    pool.wait_until_ready()
    yield pool
    pool.close()


class Strike:
    """Raises ``error`` in the ``at``-th call of one function of a module, once."""

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: Any, name: str, at: int, error: BaseException
    ) -> None:
        self.calls, self.at, self.error = 0, at, error
        self.original = getattr(owner, name)
        patch.setattr(owner, name, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.original(*arguments, **options)

    @property
    def has_struck(self) -> bool:
        return self.calls >= self.at


PLACES = {
    "read": (pipes.os, "read"),
    "write": (pipes.os, "write"),
    "wait for the pipe": (pipes, "_ready"),
    "decode the head": (worker_process.json, "loads"),
    "make the frame": (worker_process, "frame"),
    "read a whole part": (worker_process, "read_exactly"),
}
ERRORS = (asyncio.CancelledError, MemoryError, RecursionError, OSError)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_wherever_it_strikes_the_next_answer_is_the_next_questions(pool, place, error):
    """The place is struck at its first call, its second, and so on, until a question gets through."""

    async def ask_twice(at: int) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            strike = Strike(patch, *PLACES[place], at, error())
            try:
                _, payload = await pool._ask({}, b"question %d" % at)
                assert payload == b"question %d" % at
            except (Refusal, error):
                assert strike.has_struck
        for text in (b"next", b"and the one after it"):
            assert (await pool._ask({}, text))[1] == text
        return strike.has_struck

    async def run() -> int:
        at = 1
        while await ask_twice(at):
            at += 1
            assert at < 100
        return at - 1

    # On a busy machine an answer may be there before anybody has to wait for it: then once more.
    assert any(asyncio.run(run()) for _ in range(20))


def test_a_client_may_leave_at_any_step_of_the_event_loop(pool):
    async def run() -> None:
        for steps in range(40):
            asking = asyncio.ensure_future(pool._ask({}, b"of a client who leaves" * 3))
            for _ in range(steps):
                await asyncio.sleep(0.0003 if steps > 5 else 0)
            asking.cancel()
            assert (await pool._ask({}, b"%d" % steps))[1] == b"%d" % steps

    asyncio.run(run())


def test_the_servers_own_end_of_a_question_ends_the_process_or_leaves_it_in_step(pool):
    async def run() -> None:
        for steps in range(12):
            asking = asyncio.ensure_future(pool._ask({}, b"given up"))
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in list(pool._tasks):
                task.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert (await pool._ask({}, b"%d" % steps))[1] == b"%d" % steps

    asyncio.run(run())


def test_an_answer_to_another_question_ends_the_process_and_reaches_nobody(pool):
    async def run() -> None:
        before = pool._processes[0].pid
        with pytest.raises(Refusal) as refusal:
            await pool._ask({}, b"wrong number")
        assert refusal.value.status == 503
        assert (await pool._ask({}, b"next"))[1] == b"next"
        assert pool._processes[0].pid != before

    asyncio.run(run())


@pytest.mark.parametrize("sizes", [(1 << 20, 1), (2, 1 << 40)])
def test_an_answer_of_an_absurd_size_is_not_read(pool, monkeypatch, sizes):
    code = f"""
import os, struct
os.write(1, b"limits\\n")
number, _, _ = struct.unpack("<QIQ", os.read(0, 20))
os.write(1, struct.pack("<QIQ", number, {sizes[0]}, {sizes[1]}) + b"{{}}" * 1000)
os.read(0, 1)
"""
    monkeypatch.setattr(worker_process, "spawn", lambda program: spawn_echo(program, code))
    process = WorkerProcess(PROGRAM)
    process.wait_until_ready()
    with pytest.raises(Refusal) as refusal:
        asyncio.run(process.ask({}, b"", 30.0))
    assert refusal.value.status == 503
    process.close()


def ask_while_stopped(process: WorkerProcess, then: int) -> Refusal:
    """Ask a process that is stopped, so that it has the question and not worked on it; send ``then``."""

    async def run() -> Refusal:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        asking = asyncio.ensure_future(process.ask({}, b"x", 1.0))
        await asyncio.sleep(0.1)
        os.kill(process.pid, then)
        if then != signal.SIGSTOP:
            os.kill(process.pid, signal.SIGCONT)
        with pytest.raises(Refusal) as refusal:
            await asking
        return refusal.value

    return asyncio.run(run())


@pytest.mark.parametrize(
    "then, status",
    [(signal.SIGKILL, 503), (signal.SIGTERM, 503), (signal.SIGSEGV, 413), (signal.SIGABRT, 413)],
)
def test_who_ended_a_process_decides_who_is_told(pool, then, status):
    """An operator or the kernel: not the client's fault.  A crash, with the client's body at hand: it is."""
    refusal = ask_while_stopped(pool._processes[0], then)
    assert refusal.status == status
    assert ("retry-after" in refusal.headers) == (status == 503)


def test_time_that_a_process_could_not_use_is_not_the_bodys_fault(pool):
    refusal = ask_while_stopped(pool._processes[0], signal.SIGSTOP)
    assert refusal.status == 503


def test_time_that_a_process_used_is(pool, monkeypatch):
    used = iter([0.0, 1.0])
    monkeypatch.setattr(worker_process, "cpu_seconds", lambda process: next(used))
    with pytest.raises(Refusal, match=r"more than 0\.1 s"):
        asyncio.run(pool._processes[0].ask({}, b"x" * 10_000, 0.1))


def test_computing_counts_and_sleeping_does_not():
    process = spawn_echo(
        PROGRAM, "import os\nos.write(1, b'.')\nos.read(0, 1)\nfor _ in range(10**7): pass\nos.read(0, 1)"
    )
    assert process.stdin is not None and process.stdout is not None
    os.set_blocking(process.stdout.fileno(), True)
    process.stdout.read(1)
    before = worker_process.cpu_seconds(process)
    process.stdin.write(b"xx")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    used = worker_process.cpu_seconds(process)
    assert used == 0.0 or used > before
    worker_process.end(process)
    process.wait()


@pytest.mark.parametrize("looks", [[], [True]], ids=["known", "found out as its pipe breaks"])
def test_an_idle_process_found_dead_is_replaced_and_asked(pool, monkeypatch, looks):
    process = pool._processes[0]
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(WorkerProcess, "is_running", property(lambda self: bool(looks and looks.pop())))
    _, payload = asyncio.run(process.ask({}, b"mine", 30.0))
    assert payload == b"mine"


def test_a_process_that_cannot_be_started_is_503_until_it_can(pool, monkeypatch):
    def fail(program: Program) -> "subprocess.Popen[bytes]":
        raise OSError(24, "Too many open files")

    pool._processes[0]._end()
    with monkeypatch.context() as patch:
        patch.setattr(worker_process, "spawn", fail)
        for _ in range(2):
            with pytest.raises(Refusal) as refusal:
                asyncio.run(pool._ask({}, b"x"))
            assert (refusal.value.status, refusal.value.headers) == (503, {"retry-after": "1"})
    assert asyncio.run(pool._ask({}, b"x"))[1] == b"x"


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_no_thread_left_for_the_server_is_not_the_clients_fault(pool, monkeypatch):
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> Refusal:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            pool._processes[0]._end()
            with pytest.raises(Refusal) as refusal:
                await pool._ask({}, b"x")
        assert (await pool._ask({}, b"x"))[1] == b"x"
        return refusal.value

    assert asyncio.run(run()).status == 503


@pytest.mark.parametrize("greeting", ["b'ready'", "b''", "b'limit'"])
def test_a_process_that_greets_otherwise_is_never_asked(pool, monkeypatch, greeting):
    """What it says later would be taken for an answer."""
    process = pool._processes[0]
    process._end()
    with monkeypatch.context() as patch:
        code = f"import os\nos.write(1, {greeting})\n"
        patch.setattr(worker_process, "spawn", lambda program: spawn_echo(program, code))
        with pytest.raises(Refusal):
            asyncio.run(process.ask({}, b"x", 30.0))
        assert process.pid is None
    assert asyncio.run(process.ask({}, b"x", 30.0))[1] == b"x"


def test_closing_ends_a_process_that_is_just_starting(monkeypatch):
    started = []

    def spawn(program: Program) -> "subprocess.Popen[bytes]":
        if started:
            process.close()  # while it is being started again
        started.append(spawn_echo(program))
        return started[-1]

    monkeypatch.setattr(worker_process, "spawn", spawn)
    process = WorkerProcess(PROGRAM)
    process.wait_until_ready()
    process._end()
    with pytest.raises(Refusal):
        asyncio.run(process.revive())
    assert [one.wait(10) for one in started] == [-signal.SIGKILL] * 2


@pytest.mark.filterwarnings("error")
def test_closing_ends_what_is_asked(pool):
    """A question that waits for its answer does not wait for ever."""

    async def run() -> None:
        asking = asyncio.ensure_future(pool._ask({}, b"x" * 100_000))
        await asyncio.sleep(0.05)
        pool.close()
        done, _ = await asyncio.wait([asking, *pool._tasks], timeout=10)
        assert len(done) == 2
        assert not pool._processes[0].is_running

    asyncio.run(run())
