"""The server under load: every answer right, three times what it can do, clients beside each other.

    python -m bench.serve_load mixed MODEL.onnx --requests 10000 --clients 64
    python -m bench.serve_load overload MODEL.onnx --seconds 60
    python -m bench.serve_load fairness MODEL.onnx --seconds 20
    python -m bench.serve_load soak MODEL.onnx --minutes 120 --rate 50

``mixed`` sends utterances of many lengths as features, WAV and FLAC, and asks for npy, JSON, Kaldi
archives and the v2 protocol.  It compares every answer, bit for bit, with the exported model's alone.
``overload`` measures what the server can do and sends three times as much.  It tells how long answers,
refusals and /healthz took, and what memory was held.  ``fairness`` and ``soak``: see `bench.serve_fairness`
and `bench.serve_soak`.  Needs httpx, soundfile and psutil.
"""

import argparse
import asyncio
import collections
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from asr_bn.scoring.scorer import AcousticScorer
from bench.peers.batch import npy
from bench.serve import NOWHERE, server, utterances
from bench.serve_fairness import fairness
from bench.serve_processes import memory, server_processes
from bench.serve_requests import NPY, POSTERIORS, Request, make_requests
from bench.serve_soak import soak

PROBE = """
import socket, sys, time
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    print(time.monotonic() - started)
    time.sleep(0.05)
"""


async def send_all(url: str, model: str, requests: list[Request], count: int, clients: int) -> dict[str, Any]:
    """Send ``count`` requests, of ``requests`` in turn, from ``clients`` clients; return what came of them.

    A refusal (429) is asked again after a hundredth of its Retry-After; a broken connection (status 0) is an
    answer lost.
    """
    statuses: collections.Counter[int] = collections.Counter()
    answered: collections.Counter[str] = collections.Counter()
    wrong: list[int] = []
    shared = iter(range(count))

    async def one(client: httpx.AsyncClient) -> None:
        for index in shared:
            request = requests[(index * 7919) % len(requests)]
            headers = request.headers | {"x-request-id": f"r{index}"}
            path = request.path.format(model=model)
            while True:
                try:
                    answer = await client.post(path, content=request.body, headers=headers)
                except httpx.TransportError:
                    statuses[0] += 1
                    return
                statuses[answer.status_code] += 1
                if answer.status_code != 429:
                    break
                await asyncio.sleep(float(answer.headers["retry-after"]) / 100)
            answered[answer.headers["x-request-id"]] += 1
            if answer.status_code != 200 or not np.array_equal(request.read(answer), request.expected):
                wrong.append(index)

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    return {
        "statuses": dict(statuses),
        "answered_once": sum(1 for times in answered.values() if times == 1),
        "wrong": len(wrong),
    }


def counted(url: str) -> int:
    """Count the requests for scores that the server itself has answered with 200."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    ours = [s for s in lines if s.startswith("asr_bn_requests_total{") and 'status="200"' in s]
    return round(sum(float(s.split()[-1]) for s in ours if POSTERIORS in s or "/infer" in s))


def mixed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Send many requests of mixed length and kind."""
    requests = make_requests(AcousticScorer.load(arguments.model, "cpu", 1), 120)
    # The clients share a thread, so that each may be slow to send what it has begun.
    patient = {"ASR_BN_HEAD_TIMEOUT_S": "60", "ASR_BN_BODY_TIMEOUT_S": "60", "ASR_BN_DEADLINE_S": "120"}
    with server("asr-bn", arguments.model, "cpu", arguments.log, **patient) as port:
        url = f"http://127.0.0.1:{port}"
        started = time.monotonic()
        found = asyncio.run(
            send_all(url, arguments.model.stem, requests, arguments.requests, arguments.clients)
        )
        seconds = time.monotonic() - started
        return found | {"counted_by_server": counted(url), "seconds": seconds}


class Overload:
    """A server given ``factor`` times what it can do.

    Args:
        port: of the server.
        processes: the server's, for their memory.
        bodies: features as npy.
        timeout_ms: of each request.
    """

    def __init__(
        self, port: int, processes: list[psutil.Process], bodies: list[bytes], timeout_ms: int
    ) -> None:
        self.port, self.processes = port, processes
        self.bodies, self.timeout_ms = bodies, timeout_ms
        self.seconds: dict[int, list[float]] = collections.defaultdict(list)
        self.health_s: list[float] = []
        self.memory: list[int] = []

    async def ask(self, index: int, timeout_ms: int) -> tuple[int, float]:
        """Send one request on a connection of its own."""
        body = self.bodies[index % len(self.bodies)]
        head = f"POST {POSTERIORS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {NPY}\r\n"
        head += f"content-type: {NPY}\r\nx-timeout-ms: {timeout_ms}\r\ncontent-length: {len(body)}\r\n\r\n"
        started = time.monotonic()
        status = await self._exchange(head.encode() + body)
        return status, time.monotonic() - started

    async def _exchange(self, request: bytes) -> int:
        """Send and read to the end of the connection, into a buffer that is never looked at: the
        clients share the server's cores, and should cost little."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", self.port))
            await loop.sock_sendall(connection, request)
            head = await loop.sock_recv(connection, 100)
            while await loop.sock_recv_into(connection, NOWHERE):
                pass
        return int(head.split(maxsplit=2)[1])

    async def capacity(self, count: int) -> float:
        """Measure the requests a second of 8 clients."""
        shared = iter(range(count))

        async def client() -> None:
            for index in shared:
                await self.ask(index, 60_000)

        started = time.monotonic()
        await asyncio.gather(*(client() for _ in range(8)))
        return count / (time.monotonic() - started)

    async def press(self, rate: float, seconds: float) -> None:
        """Send ``rate`` requests a second, whatever becomes of them."""
        started, sent, tasks = time.monotonic(), 0, []
        health = asyncio.ensure_future(asyncio.to_thread(self._probe_health, seconds))
        while time.monotonic() - started < seconds:
            tasks.append(asyncio.ensure_future(self._note(sent)))
            sent += 1
            await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
        await asyncio.gather(*tasks)
        self.health_s = await health

    async def watch_memory(self) -> None:
        """Note the server's memory, until cancelled."""
        while True:
            self.memory.append(memory(self.processes))
            await asyncio.sleep(0.2)

    async def _note(self, index: int) -> None:
        status, seconds = await self.ask(index, self.timeout_ms)
        self.seconds[status].append(seconds)

    def _probe_health(self, seconds: float) -> list[float]:
        """Return the seconds that /healthz takes for a process that does nothing else."""
        command = [sys.executable, "-c", PROBE, str(self.port), str(seconds)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return [float(line) for line in lines]


def overload(arguments: argparse.Namespace) -> dict[str, Any]:
    """Send three times what the server can do."""
    scorer = AcousticScorer.load(arguments.model, "cpu", 1)
    bodies = [npy(one) for one in utterances(30, scorer.metadata.num_features)]
    with server("asr-bn", arguments.model, "cpu", arguments.log, ASR_BN_MAX_QUEUE="64") as port:
        processes = server_processes(port)
        load = Overload(port, processes, bodies, arguments.timeout_ms)

        async def main() -> dict[str, Any]:
            before = await load.capacity(80)
            warm = memory(processes)
            watch = asyncio.ensure_future(load.watch_memory())
            await load.press(arguments.factor * before, arguments.seconds)
            after = await load.capacity(80)
            watch.cancel()
            return {"capacity": before, "capacity_after": after, "memory_ratio": max(load.memory) / warm}

        found = asyncio.run(main())
    seconds = {str(status): _quantiles(values) for status, values in sorted(load.seconds.items())}
    return found | {"answers": seconds, "healthz": _quantiles(load.health_s)}


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"count": len(seconds), "p50_ms": float(p50), "p99_ms": float(p99), "max_ms": 1000 * max(seconds)}


def main() -> None:
    """Load the server and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measures = {"mixed": mixed, "overload": overload, "fairness": fairness, "soak": soak}
    parser.add_argument("what", choices=measures)
    parser.add_argument("model", type=Path, nargs="?", default=Path("exp/mini/batch_norm/model.onnx"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--timeout-ms", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=10.0, help="of soak")
    parser.add_argument("--rate", type=float, default=50.0, help="attacks a second, of soak")
    parser.add_argument("--seed", type=int, default=0, help="of soak's attacks")
    parser.add_argument("--log", type=Path, default=Path("/tmp/bench-asr-bn.log"))
    arguments = parser.parse_args()
    print(json.dumps(measures[arguments.what](arguments), indent=2))


if __name__ == "__main__":
    main()
