"""How the server ends, and what trouble around it leaves alone: grace, killed supervisors, standard error."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from serve.transport.standard_error import DroppingStream
from tests.helpers.serving import ROOT, chirp, connect, npy, running_server, until_closed, wav, write_model

BODY = npy(np.zeros((5, 123), np.float32))
NPY = {"content-type": "application/x-npy"}
HEAD = "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-npy\r\n"
HEAD += f"content-length: {len(BODY)}\r\n\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("end") / "tiny.onnx")


# The time of grace


def test_what_comes_within_a_fraction_of_a_second_of_grace_is_answered(model):
    with running_server(model, ASR_BN_GRACE_S="0.9", ASR_BN_SHUTDOWN_DELAY_S="0") as (url, process):
        with connect(url) as connection:
            connection.sendall(HEAD.format(path="/v1/posteriors").encode() + BODY[:-9])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.4)
            connection.sendall(BODY[-9:])
            assert until_closed(connection).startswith(b"HTTP/1.1 200 OK")
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("path", "member"), [("/v1/posteriors", "detail"), ("/v2/models/tiny/infer", "error")], ids=["v1", "v2"]
)
def test_what_the_end_of_grace_interrupts_is_answered_503(model, path, member):
    """In the documented form, with the request's id, and in the log."""
    settings = {"ASR_BN_GRACE_S": "0.5", "ASR_BN_SHUTDOWN_DELAY_S": "0", "ASR_BN_ACCESS_LOG": "true"}
    with running_server(model, **settings) as (url, process):
        with connect(url) as connection:
            connection.sendall(HEAD.format(path=path).encode() + BODY[:-9])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            head, _, body = until_closed(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b"x-request-id: " in head
        assert json.loads(body)[member] == "the server is shutting down"
        assert process.wait(20) == 0
        assert process.stderr is not None
        logged = [json.loads(line) for line in process.stderr if line.startswith("{")]
        assert [line["status"] for line in logged] == [503]


@pytest.mark.parametrize("begun", ["", "POST /v1/posteriors HTTP/1.1\r\nho"], ids=["connection", "head"])
def test_what_has_begun_is_answered_though_its_head_is_not_complete(model, begun):
    """A connection as well, for the little time that a request needs to follow it."""
    with running_server(model, ASR_BN_SHUTDOWN_DELAY_S="0") as (url, process), connect(url) as connection:
        connection.sendall(begun.encode())
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionRefusedError):  # the end has begun
            while True:
                connect(url).close()
        connection.sendall(HEAD.format(path="/v1/posteriors").encode()[len(begun) :] + BODY)
        assert until_closed(connection).startswith(b"HTTP/1.1 200 OK")
        assert process.wait(20) == 0


def test_nobody_is_kept_waiting_by_several_processes_that_end(model):
    """While one is still answering, the port is closed."""
    with running_server(model, "--processes", "2") as (url, supervisor), connect(url) as connection:
        connection.sendall(HEAD.format(path="/v1/posteriors").encode() + BODY[:-9])
        time.sleep(0.2)
        supervisor.send_signal(signal.SIGTERM)
        until = time.monotonic() + 15
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < until:
                connect(url).close()
                time.sleep(0.02)
        connection.sendall(BODY[-9:])
        assert until_closed(connection).startswith(b"HTTP/1.1 200 OK")
        assert supervisor.wait(20) == 0


# Nobody stays behind


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def metrics_folder(process: psutil.Process) -> str:
    return process.environ().get("PROMETHEUS_MULTIPROC_DIR", "")


def test_nothing_stays_of_several_processes_whose_supervisor_was_killed(model):
    with running_server(model, "--processes", "2", ASR_BN_AUDIO_PROCESSES="1") as (url, supervisor):
        until = time.monotonic() + 60
        while len(descendants(supervisor.pid)) < 5:  # two servers, their decoders, multiprocessing's tracker
            assert time.monotonic() < until
            time.sleep(0.1)
        assert httpx.post(f"{url}/v1/posteriors", content=wav(chirp())).status_code == 200
        left = descendants(supervisor.pid)
        folder = Path(next(filter(None, map(metrics_folder, left))))
        assert folder.is_dir()
        supervisor.kill()
        supervisor.wait()
        gone, alive = psutil.wait_procs(left, timeout=20)
        assert not alive
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")
        assert not folder.exists()
        with running_server(model, "--port", url.rsplit(":", 1)[1]) as (again, _):
            assert again == url


def test_the_decoders_of_a_server_are_gone_before_it(model):
    """Not even zombies of them stay for another process to look after."""
    with running_server(model, ASR_BN_AUDIO_PROCESSES="2") as (_, server):
        left = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert not [child for child in left if psutil.pid_exists(child.pid)]


def test_the_metrics_of_several_processes_are_gone_before_their_supervisor(model):
    with running_server(model, "--processes", "2") as (_, supervisor):
        folder = Path(next(filter(None, map(metrics_folder, descendants(supervisor.pid)))))
        assert folder.is_dir()
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(20) == 0
        assert not folder.exists()


def test_nothing_stays_of_a_killed_server(model):
    with running_server(model, ASR_BN_AUDIO_PROCESSES="2") as (url, server):
        left = descendants(server.pid)
        assert len(left) == 2
        server.kill()
        assert not psutil.wait_procs(left, timeout=20)[1]


# Standard error


def ask_often(url: str, count: int = 1500) -> None:
    """So many requests that their lines of the log fill a pipe, and a bug's traceback among them."""
    with httpx.Client(base_url=url, timeout=10) as client:
        for _ in range(count):
            assert client.get("/healthz").status_code == 200
        assert client.post("/v1/posteriors", content=BODY, headers=NPY).status_code == 200
        assert client.post("/v1/posteriors", content=wav(chirp())).status_code == 200


def dropped(url: str) -> float:
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("asr_bn_log_lines_dropped_total"):
            return float(line.split()[-1])
    raise AssertionError("no such metric")


def serve(model: Path, *options: str, **arguments) -> "contextlib.AbstractContextManager[str]":
    """A server that writes its log to what ``arguments`` give `subprocess.Popen`; its address."""

    @contextlib.contextmanager
    def run():
        command = [sys.executable, "-m", "asr_bn.cli.main", "serve", str(model), "--port", "0", *options]
        given = os.environ | {"ASR_BN_AUDIO_PROCESSES": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=given, **arguments
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    return run()


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "two"])
def test_a_pipe_that_nobody_reads_keeps_nobody_waiting(model, options):
    source, sink = os.pipe()
    try:
        with serve(model, *options, stderr=sink) as url:
            os.set_blocking(sink, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(sink, b"x")
            os.set_blocking(sink, True)
            ask_often(url)
    finally:
        os.close(source)
        os.close(sink)


def test_a_full_disk_under_standard_error_is_counted_and_touches_no_answer(model):
    with Path("/dev/full").open("wb") as full, serve(model, stderr=full) as url:
        ask_often(url, 100)
        until = time.monotonic() + 10
        while dropped(url) < 100:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_descriptors_that_the_caller_closed_are_opened_before_anything_else_takes_them():
    program = (
        "import os, socket; from asr_bn.cli.errors import open_standard_descriptors; "
        "open_standard_descriptors(); sock, file = socket.socket(), open(os.devnull); "
        "assert min(sock.fileno(), file.fileno()) > 2; "
        "assert [os.path.samestat(os.fstat(n), os.stat(os.devnull)) for n in (0, 2)] == [True, True]"
    )
    command = ["bash", "-c", 'exec "$@" 0<&- 2>&-', "x", sys.executable, "-c", program]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_a_closed_standard_error_touches_no_answer(model):
    script = 'exec "$@" 2>&-'
    command = [sys.executable, "-m", "asr_bn.cli.main", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(
        ["bash", "-c", script, "x", *command], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        ask_often(process.stdout.readline().split()[-1], 20)
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout.read() == ""  # the log does not go there instead
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_full_disk_under_standard_output_keeps_no_server_from_starting(model):
    with Path("/dev/full").open("wb") as full:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "asr_bn.cli.main", "serve", str(model), "--port", str(port)]
        process = subprocess.Popen(command, stdout=full, cwd=ROOT)
        try:
            until = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx.TransportError):
                    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
                    break
                assert time.monotonic() < until
                time.sleep(0.1)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def test_all_lines_are_written_in_order_when_there_is_room(tmp_path):
    source, sink = os.pipe()
    stream = DroppingStream(sink)
    lines = [f"line {k} \udce9 {'x' * (k % 300)}\n" for k in range(20_000)]

    def write() -> None:
        for line in lines:
            stream.write(line)
            while stream._size > 500_000:
                time.sleep(0.001)
        stream.drain(10)
        os.close(sink)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(source, "rb") as file:
        assert file.read() == "".join(lines).encode("utf-8", "backslashreplace")
    writer.join()


def test_what_finds_no_room_is_dropped_and_counted(tmp_path):
    source, sink = os.pipe()
    stream, lost = DroppingStream(sink), []
    stream.on_drop = lost.append
    for _ in range(40_000):
        stream.write("x" * 99 + "\n")
    read = bytearray()
    while len(read) < 100 * (40_000 - sum(lost)):
        read += os.read(source, 1 << 20)
    assert len(read) == 100 * (40_000 - sum(lost))
    assert 1 << 20 <= len(read) < 3 << 20
    stream.write("again\n")
    assert os.read(source, 100) == b"again\n"
    os.close(source)
    before = sum(lost)
    stream.write("to nobody\n" * 3)
    stream.drain(10)
    assert sum(lost) == before + 3
    os.close(sink)
