"""The server against its peers: the same ONNX file, machine, clients and utterances.

    pip install 'asr-bn[bench]'
    python -m bench.serve MODEL.onnx --servers asr-bn naive litserve ray --clients 1 8 64

Utterances of 150 to 450 frames come as npy features and go as npy log posteriors, so that everybody does the
same work.  Servers take turns for ``--rounds``, and the median of each is told.  ``onnxruntime`` is the
library alone on the same utterances, in the best of several ways to batch them; ``asr-bn over`` are our
requests a second over those of each peer and of that best.  ``overhead`` is what one client of ours waits for
beyond decoding, features and inference (which the answer's Server-Timing tells), median in milliseconds.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from asr_bn.system.arrays import Floats
from bench.peers.batch import npy, score

COMMANDS = {
    "asr-bn": ["-m", "asr_bn.cli.main", "serve", "{model}", "--port", "{port}", "--device", "{device}"],
    "naive": ["-m", "uvicorn", "bench.peers.naive:app", "--port", "{port}", "--log-level", "error"],
    "litserve": ["-m", "bench.peers.lit", "{port}"],
    "ray": ["-m", "bench.peers.ray_batch", "{port}"],
}
NPY = "application/x-npy"
FORM = "multipart/form-data; boundary=bench"
NOWHERE = memoryview(bytearray(1 << 20))


def utterances(count: int, num_features: int) -> list[Floats]:
    """Return features of ``count`` utterances of 150 to 450 frames; always the same."""
    rng = np.random.default_rng(2015)
    return [rng.standard_normal((n, num_features)).astype(np.float32) for n in rng.integers(150, 451, count)]


@contextmanager
def server(name: str, model: Path, device: str, log: Path, **settings: str) -> Iterator[int]:
    """Run a server as a process of its own; yield its port once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {"model": str(model), "port": str(port), "device": device}
    command = [sys.executable, *(part.format(**given) for part in COMMANDS[name])]
    environment = os.environ | {
        "BENCH_MODEL": str(model.absolute()),
        "ASR_BN_ACCESS_LOG": "false",
        "ASR_BN_MAX_QUEUE": "128",
    }
    environment |= settings
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe's workers outlive it, polling their queue
        process.wait()


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", seconds: float = 90.0) -> None:
    """Wait until the server has routes on ``port``.

    Raises:
        ValueError: the process ended first, or took too long.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/posteriors", data=b"x")
            urllib.request.urlopen(request, timeout=10)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise ValueError(f"{process.args!r}: did not start")


def as_form(body: bytes) -> bytes:
    """Return ``body`` as the part ``file`` of a form."""
    head = b'--bench\r\ncontent-disposition: form-data; name="file"; filename="x.npy"\r\n\r\n'
    return head + body + b"\r\n--bench--\r\n"


def head_of(path: str, content_type: str, accept: str) -> bytes:
    """Return the head of a request, with a place for the length of its body."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\ncontent-type: {content_type}\r\n"
    return f"{head}content-length: %d\r\n\r\n".encode()


async def ask(port: int, content_type: str, bodies: Iterator[bytes], seconds: list[float]) -> None:
    """Ask on one connection, one request after the other; plain sockets, so that clients cost little."""
    loop = asyncio.get_running_loop()
    head = head_of("/v1/posteriors", content_type, NPY)
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        for body in bodies:
            started = time.perf_counter()
            await loop.sock_sendall(connection, head % len(body) + body)
            status = await receive(connection)
            if status != 200:
                raise ValueError(f"the server answered {status}")
            seconds.append(time.perf_counter() - started)


async def receive(connection: socket.socket) -> int:
    """Return an answer's status; its body goes where nobody looks, the same place for all."""
    loop = asyncio.get_running_loop()
    head, end = b"", -1
    while end < 0:
        head += await loop.sock_recv(connection, 4096)
        end = head.find(b"\r\n\r\n")
    lines = head[:end].lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    rest = length - (len(head) - end - 4)
    while rest:
        rest -= await loop.sock_recv_into(connection, NOWHERE[:rest])
    return int(lines[0].split()[1])


async def load(port: int, content_type: str, clients: int, bodies: list[bytes]) -> dict[str, float]:
    """Measure requests a second and milliseconds of a request, of ``bodies`` shared among ``clients``."""
    seconds: list[float] = []
    shared = iter(bodies)
    started = time.perf_counter()
    await asyncio.gather(*(ask(port, content_type, shared, seconds) for _ in range(clients)))
    elapsed = time.perf_counter() - started
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"requests_per_s": len(seconds) / elapsed, "p50_ms": float(p50), "p99_ms": float(p99)}


def onnxruntime_alone(model: Path, feats: list[Floats]) -> dict[str, float]:
    """Measure utterances a second of the library alone, for each way to batch and to use the cores."""
    cores = len(os.sched_getaffinity(0))
    rates = {}
    for calls, threads in ((1, cores), (cores, 1)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for size in (1, 2, 4, 8):
            ordered = sorted(feats, key=len)
            batches = [ordered[k : k + size] for k in range(0, len(ordered), size)]
            with ThreadPoolExecutor(calls) as pool:
                started = time.perf_counter()
                list(pool.map(partial(score, session), batches))
                elapsed = time.perf_counter() - started
            rates[f"{calls} calls of {threads} threads, batches of {size}"] = len(feats) / elapsed
    return rates


def wav(seconds: float, sample_frequency: int) -> bytes:
    """Return a WAV file of noise."""
    samples = np.random.default_rng(1).normal(0, 3000, int(seconds * sample_frequency)).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, sample_frequency, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def ask_blocking(connection: socket.socket, request: bytes, buffer: bytearray) -> str:
    """Send one request over a plain socket, at the least cost for a client; return the answer's head."""
    connection.sendall(request)
    view, size, head, length = memoryview(buffer), 0, b"", -1
    while length < 0 or size < length:
        size += connection.recv_into(view[size:])
        if length < 0 and (end := buffer.find(b"\r\n\r\n", 0, size)) >= 0:
            head = bytes(view[:end]).lower()
            length = end + 4 + int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head.decode()


def overhead(
    connection: socket.socket, head: bytes, bodies: list[bytes], buffer: bytearray
) -> list[tuple[float, float]]:
    """Measure milliseconds of one client's requests, and those that no stage of the server explains."""
    figures = []
    for body in bodies:
        sent = head % len(body) + body
        started = time.perf_counter()
        answer = ask_blocking(connection, sent, buffer)
        total = 1000 * (time.perf_counter() - started)
        stages = answer.partition("server-timing: ")[2].split("\r\n")[0].split(", ")
        spent = dict(stage.split(";dur=") for stage in stages)
        computed = sum(float(spent.get(stage, 0)) for stage in ("decode", "features", "inference"))
        figures.append((total, total - computed))
    return figures


def overheads(arguments: argparse.Namespace, feats: list[Floats]) -> dict[str, dict[str, float]]:
    """Return medians of `overhead` for features and audio, in turns so that a busy moment meets all."""
    features, audio = [npy(one) for one in feats], [wav(len(one) / 100, 16000) for one in feats]
    asked = {
        "features to npy": (features, "/v1/posteriors", NPY, NPY),
        "audio to npy": (audio, "/v1/posteriors", "audio/wav", NPY),
        "audio to JSON, top_k=1": (audio, "/v1/posteriors?top_k=1", "audio/wav", "application/json"),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    buffer = bytearray(1 << 26)
    with (
        server("asr-bn", arguments.model, arguments.device, Path("/tmp/bench-asr-bn.log")) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as every HTTP client does
        for turn in range(arguments.rounds + 1):
            for name, (bodies, path, kind, accept) in asked.items():
                figures = overhead(connection, head_of(path, kind, accept), bodies, buffer)
                found[name] += figures if turn else []  # the first is to warm up
    medians = {name: np.median(figures, axis=0) for name, figures in found.items()}
    return {name: {"p50_ms": total, "overhead_p50_ms": rest} for name, (total, rest) in medians.items()}


def ratios(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return our requests a second over each peer's and the library's, for each number of clients."""
    servers, best = report["servers"], max(report["onnxruntime"].values())
    ours = servers["asr-bn"]
    over = {
        name: {clients: ours[clients]["requests_per_s"] / of[clients]["requests_per_s"] for clients in ours}
        for name, of in servers.items()
        if name != "asr-bn"
    }
    return over | {"onnxruntime": {clients: ours[clients]["requests_per_s"] / best for clients in ours}}


def median_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of every figure over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def compare(arguments: argparse.Namespace, feats: list[Floats]) -> dict[str, Any]:
    """Measure the library alone, and every server at every number of clients, in turns."""
    bodies = [npy(one) for one in feats]
    rounds: dict[str, dict[int, list[dict[str, float]]]] = {}
    alone: list[dict[str, float]] = []
    for turn in range(arguments.rounds):
        alone.append(onnxruntime_alone(arguments.model, feats[:64]))
        print(f"round {turn + 1}: onnxruntime alone: {alone[-1]}", file=sys.stderr)
        for name in arguments.servers:
            kind = FORM if name == "litserve" else NPY
            sent = [as_form(body) for body in bodies] if kind == FORM else bodies
            with server(name, arguments.model, arguments.device, Path(f"/tmp/bench-{name}.log")) as port:
                asyncio.run(load(port, kind, 8, sent[:24]))
                for clients in arguments.clients:
                    figures = asyncio.run(load(port, kind, clients, sent))
                    rounds.setdefault(name, {}).setdefault(clients, []).append(figures)
                    print(f"round {turn + 1}: {name}, {clients} clients: {figures}", file=sys.stderr)
    servers = {
        name: {clients: median_of(figures) for clients, figures in by_clients.items()}
        for name, by_clients in rounds.items()
    }
    return {"onnxruntime": median_of(alone), "servers": servers}


def main() -> None:
    """Compare, and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--servers", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    feats = utterances(arguments.requests, session.get_inputs()[0].shape[2])
    report = compare(arguments, feats)
    if "asr-bn" in arguments.servers:
        report["asr-bn over"] = ratios(report)
        report["overhead"] = overheads(arguments, feats[:64])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
