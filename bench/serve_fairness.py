"""What one client waits for beside another that sends all it can.

    python -m bench.serve_load fairness MODEL.onnx --clients 64 --seconds 20

One asks from 127.0.0.1, one request after the other, first alone and then beside another.  The other has
``--clients`` connections from 127.0.0.2, in a process of its own.  The first one's p99 then
is to be at most twice that alone and the time of one call, the other's median, which Server-Timing tells.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr_bn.scoring.scorer import AcousticScorer
from bench.peers.batch import npy
from bench.serve import NOWHERE, server, utterances, wav

NPY, JSON = "application/x-npy", "application/json"
ONE, OTHER = "127.0.0.1", "127.0.0.2"
_INFERENCE = re.compile(rb"inference;dur=([0-9.]+)")
# After a refusal, so that the other client's own processor time is not what is measured.
_PAUSE_S = 0.1


@dataclass
class Seen:
    """What a client has seen: statuses, seconds of answers, seconds of the calls that made them."""

    statuses: Counter[int] = field(default_factory=Counter)
    answer_s: list[float] = field(default_factory=list)
    call_s: list[float] = field(default_factory=list)


async def exchange(port: int, source: str, request: bytes) -> bytes:
    """Send a request that ends its connection, read the whole answer, and return its beginning."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.bind((source, 0))
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, request)
        head = await loop.sock_recv(connection, 2000)
        while await loop.sock_recv_into(connection, NOWHERE):
            pass
    return head


async def ask(port: int, source: str, requests: Iterator[bytes], until: float, seen: Seen) -> None:
    """Ask on one connection after the other, until it is time."""
    for request in requests:
        if time.monotonic() > until:
            return
        started = time.monotonic()
        head = await exchange(port, source, request)
        status = int(head.split(maxsplit=2)[1])
        seen.statuses[status] += 1
        if status == 200:
            seen.answer_s.append(time.monotonic() - started)
            if found := _INFERENCE.search(head):
                seen.call_s.append(float(found[1]) / 1000)
        else:
            await asyncio.sleep(_PAUSE_S)


def make_requests(model: Path, kind: str) -> list[bytes]:
    """Return requests of utterances of 150 to 450 frames: features for npy or JSON, or audio for npy."""
    scorer = AcousticScorer.load(model, "cpu", 1)
    feats = utterances(30, scorer.metadata.num_features)
    accept, content_type = (JSON if kind == "json" else NPY), ("audio/wav" if kind == "audio" else NPY)
    bodies = [wav(len(one) / 100, 16000) if kind == "audio" else npy(one) for one in feats]
    head = f"POST /v1/posteriors HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n"
    head += f"content-type: {content_type}\r\nx-timeout-ms: 60000\r\ncontent-length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def flood(port: int, model: Path, kind: str, connections: int, seconds: float) -> None:
    """Send all that so many connections can, and print what was seen."""
    requests = make_requests(model, kind)
    print("ready", flush=True)

    async def main() -> Seen:
        seen, until = Seen(), time.monotonic() + seconds
        turns = [itertools.cycle(requests[k % 30 :] + requests[: k % 30]) for k in range(connections)]
        await asyncio.gather(*(ask(port, OTHER, one, until, seen) for one in turns))
        return seen

    seen = asyncio.run(main())
    call_s = float(np.median(seen.call_s)) if seen.call_s else 0.0
    print(json.dumps({"statuses": dict(seen.statuses), "call_s": call_s}), flush=True)


@contextlib.contextmanager
def flooded(port: int, model: Path, kind: str, connections: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Let another process flood the server from another address; what it printed comes at the end."""
    command = [sys.executable, "-m", "bench.serve_fairness", str(port), str(model), kind]
    process = subprocess.Popen([*command, str(connections), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told: dict[str, Any] = {}
    try:
        process.stdout.readline()
        time.sleep(1)
        yield told
        told |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def fairness(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a client's p99 alone and beside one with many connections, and what it may be at most."""
    found: dict[str, Any] = {}
    for kind in ("features", "audio", "json"):
        requests = make_requests(arguments.model, kind)
        with server("asr-bn", arguments.model, "cpu", arguments.log, ASR_BN_MAX_QUEUE="64") as port:

            def measure(port: int, requests: list[bytes], seconds: float) -> Seen:
                seen, until = Seen(), time.monotonic() + seconds
                asyncio.run(ask(port, ONE, itertools.cycle(requests), until, seen))
                return seen

            measure(port, requests, 2)
            alone = measure(port, requests, arguments.seconds)
            during = arguments.seconds + 5
            with flooded(port, arguments.model, kind, arguments.clients, during) as other:
                beside = measure(port, requests, arguments.seconds)
        found[kind] = _compared(alone, beside, other["call_s"]) | {"other": other["statuses"]}
    return found


def _compared(alone: Seen, beside: Seen, call_s: float) -> dict[str, Any]:
    alone_s, beside_s = (float(np.percentile(seen.answer_s, 99)) for seen in (alone, beside))
    return {
        "alone_p99_ms": 1000 * alone_s,
        "beside_p99_ms": 1000 * beside_s,
        "call_ms": 1000 * call_s,
        "at_most_ms": 1000 * (2 * alone_s + call_s),
        "is_fair": beside_s <= 2 * alone_s + call_s and set(beside.statuses) == {200},
        "statuses": dict(beside.statuses),
    }


if __name__ == "__main__":
    given = sys.argv[1:]
    flood(int(given[0]), Path(given[1]), given[2], int(given[3]), float(given[4]))
