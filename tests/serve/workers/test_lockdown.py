"""The processes that decode audio can do nothing else, and decode every format all the same."""

import asyncio
import io
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.options import FbankOptions
from serve.limits.refusal import Refusal
from serve.workers.audio_workers import AudioLimits, AudioWorkers
from serve.workers.lockdown import CALLS, filter_code
from serve.workers.worker_process import WorkerProcess
from tests.helpers.serving import chirp, wav
from tests.helpers.sound_bodies import SOUND

ROOT = Path(__file__).parents[3]
FILTERS = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
linux = pytest.mark.skipif(not FILTERS, reason="filters of system calls are Linux's")

# What a hole in a decoder would be used for; each is tried before and after the process is locked in.
ATTEMPTS = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading
from serve.workers.lockdown import lock_in
server = socket.create_server(("127.0.0.1", 0))
path = sys.argv[1]
attempts = {
    "open": lambda: open(path).close(),
    "create": lambda: open(path + ".new", "w").close(),
    "stat": lambda: os.stat(path),
    "list": lambda: os.listdir("/"),
    "rename": lambda: os.rename(path, path),
    "remove": lambda: os.unlink(path + ".new"),
    "socket": lambda: socket.socket().close(),
    "connect": lambda: socket.create_connection(server.getsockname()).close(),
    "accept": lambda: server.listen(),
    "pair": lambda: [end.close() for end in socket.socketpair()],
    "pipe": lambda: [os.close(end) for end in os.pipe()],
    "duplicate": lambda: os.close(os.dup(1)),
    "memory file": lambda: os.close(os.memfd_create("x")),
    "fork": lambda: os.fork() or os._exit(0),
    "run": lambda: subprocess.run(["true"], check=True),
    "thread": lambda: threading.Thread(target=int).start(),
    "signal": lambda: os.kill(os.getppid(), 0),
    "other's memory": lambda: open("/proc/%d/maps" % os.getppid()).close(),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)),
    "directory": lambda: os.chdir("/"),
    "execute": lambda: os.execv(sys.executable, [sys.executable, "-c", "print('execute')"]),
}
lock = sys.argv[2] == "lock"
print(lock_in() if lock else True, flush=True)
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, RuntimeError, ValueError):
        continue
    print(name, flush=True)
"""


def successes(folder: Path, how: str) -> list[str]:
    path = folder / "secret"
    path.write_text("secret")
    command = [sys.executable, "-c", ATTEMPTS, str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    locked, *worked = done.stdout.split("\n")[:-1]
    assert locked == "True"
    return worked


@linux
def test_a_locked_in_process_opens_connects_starts_and_signals_nothing(tmp_path):
    assert successes(tmp_path, "lock") == []


@linux
def test_the_same_attempts_work_in_a_process_that_is_not_locked_in(tmp_path):
    assert len(successes(tmp_path, "no")) == 21


def encoded_by_av(kind: str, codec: str, rate: int, has_picture: bool = False) -> bytes:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as container:
        if has_picture:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width = picture.height = 16
        audio = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(chirp(1.0, rate)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        if has_picture:
            container.mux([*picture.encode(av.VideoFrame(16, 16, "yuv420p")), *picture.encode(None)])
        for packet in [*audio.encode(frame), *audio.encode(None)]:
            container.mux(packet)
    return stream.getvalue()


FORMATS = {name: data for name, data in SOUND.items() if name != "npy"} | {
    "mp4": encoded_by_av("mp4", "aac", 16000),
    "mp4-44k": encoded_by_av("mp4", "aac", 44100),
    "mp4-video": encoded_by_av("mp4", "aac", 16000, has_picture=True),
    "webm": encoded_by_av("webm", "libopus", 48000),
    "wav-48k": wav(chirp(0.5, 48000), 48000),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def pool() -> Iterator[AudioWorkers]:
    pool = AudioWorkers(1, AudioLimits())
    pool.wait_until_ready()
    yield pool
    pool.close()


@linux
def test_the_processes_of_the_server_are_locked_in(pool):
    status = Path(f"/proc/{pool._processes[0].pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["Seccomp"], fields["NoNewPrivs"], fields["Threads"]) == ("2", "1", "1")
    descriptors = Path(f"/proc/{pool._processes[0].pid}/fd")
    kinds = sorted(str(one.readlink()).partition(":")[0] for one in descriptors.iterdir())
    assert kinds == ["/dev/null", "/dev/null", "pipe", "pipe"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_decoded_by_a_locked_in_process(pool, runner, name):
    before = pool._processes[0].pid
    feats = runner.run(pool.features(FORMATS[name], FbankOptions(), 2)).feats
    assert feats.shape[1] == 123 and len(feats) > 30
    for cut in (20, 100, len(FORMATS[name]) // 2):
        try:
            runner.run(pool.features(FORMATS[name][:cut], FbankOptions(), 2))
        except Refusal as refusal:
            assert refusal.status in (415, 422), refusal.detail
    assert pool._processes[0].pid == before


# Decodes whole and damaged files, and prints what was opened or imported meanwhile.
WATCHED = """
import json, sys
from serve.workers import audio_worker
audio_worker.import_what_is_needed()
head = json.loads(sys.stdin.readline())
bodies = [bytes.fromhex(line) for line in sys.stdin]
seen = []
sys.addaudithook(lambda event, arguments: seen.append([event, str(arguments)]) if seen is not None else None)
statuses = [audio_worker.features(head, body)[0]["status"] for body in bodies]
told, seen = seen, None
events = ("import", "open", "os.listdir", "socket.connect")
print(json.dumps([statuses, [one for one in told if one[0] in events]]))
"""


def test_nothing_is_imported_or_opened_while_bodies_are_decoded():
    """What a library leaves for its first use would be out of reach then."""
    head = {"fbank": vars(FbankOptions()), "delta_order": 2, "max_seconds": 60, "channel": None}
    bodies = [*FORMATS.values(), *(body[:100] for body in FORMATS.values()), b"RIFF....WAVE", b"fLaC" * 99]
    lines = [json.dumps(head), *(body.hex() for body in bodies)]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    statuses, seen = json.loads(done.stdout)
    assert statuses[: len(FORMATS)] == [200] * len(FORMATS)
    assert set(statuses) <= {200, 415, 422}
    assert seen == []


def test_a_system_without_filters_is_reported_when_the_server_starts(monkeypatch, caplog):
    monkeypatch.setattr(WorkerProcess, "__init__", lambda self, program: None)
    monkeypatch.setattr(WorkerProcess, "wait_until_ready", lambda self: False)
    AudioWorkers(1, AudioLimits()).wait_until_ready()
    assert "files and sockets" in caplog.text


def run_filter(code: bytes, architecture: int, number: int) -> int:
    """What the kernel's machine answers, after its manual: loads, jumps if equal, returns."""
    instructions = np.frombuffer(code, [("code", "=u2"), ("jt", "u1"), ("jf", "u1"), ("k", "=u4")])
    at = value = 0
    while True:
        code_, jt, jf, k = (int(field) for field in instructions[at])
        at += 1
        if code_ == 0x20:
            value = {0: number, 4: architecture}[k]
        elif code_ == 0x15:
            at += jt if value == k else jf
        else:
            assert code_ == 0x06
            return k


@pytest.mark.parametrize("column, architecture", [(0, 0xC000003E), (1, 0xC00000B7)])
def test_the_filter_lets_through_what_is_listed_and_kills_other_architectures(column, architecture):
    numbers = [numbers[column] for numbers in CALLS.values() if numbers[column] is not None]
    assert len(set(numbers)) == len(numbers)
    code = filter_code(numbers, architecture)
    for number in (*range(500), 0x40000000, 0x40000001, 2**32 - 1):  # with the bit of the x32 interface, too
        assert run_filter(code, architecture, number) == (0x7FFF0000 if number in numbers else 0x00050001)
        assert run_filter(code, 0x40000003, number) == 0x80000000


HEADERS = Path("/usr/include/asm-generic/unistd.h")


@pytest.mark.skipif(not HEADERS.exists(), reason="the kernel's headers are not installed")
def test_the_numbers_of_aarch64_are_those_of_the_kernels_headers():
    lines = [line.split() for line in HEADERS.read_text().splitlines() if line.startswith("#define __NR")]
    lines.sort(key=lambda line: "__NR3264_" in line[1])  # where a name has both, the second is the number
    numbers = {
        line[1].removeprefix("__NR3264_").removeprefix("__NR_"): line[2] for line in lines if len(line) > 2
    }
    for name, (_, number) in CALLS.items():
        if number is not None:
            assert numbers[name] == str(number), name
