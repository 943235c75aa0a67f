"""Honest clients beside hostile ones, for hours: every honest answer right, and memory flat.

    python -m bench.serve_load soak MODEL.onnx --minutes 120 --rate 50

Honest clients, each with an address and utterances of its own, ask one after the other.  They compare every
answer, bit for bit, with the exported model's alone: another one's answer would be found.  Meanwhile other
addresses attack, ``--rate`` times a second: they send damaged bodies, leave in the middle of uploads, do not
read their answers, and flood the server.  Counts are printed every ten minutes.  The memory of every
process is noted at 10, 50 and 100 % of the time: the least, median and most of a minute.  All traffic stays
on 127.0.0.0/8.
"""

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import random
import socket
import statistics
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import psutil

from asr_bn.scoring.scorer import AcousticScorer
from bench.peers.batch import npy
from bench.serve import as_form, server
from bench.serve_processes import server_processes
from bench.serve_requests import Request, make_requests

NUM_HONEST, NUM_UTTERANCES = 4, 12
FLOOD_CONNECTIONS = 64
_REPORT_S, _LOOK_S = 600.0, 2.0
_SETTINGS = {
    "ASR_BN_MAX_QUEUE": "64",
    "ASR_BN_MAX_HELD_FRAMES": "30000",
    "ASR_BN_BODY_TIMEOUT_S": "5",
    "ASR_BN_SEND_TIMEOUT_S": "10",
    "ASR_BN_DEADLINE_S": "60",
}
# Beside these an honest client gets answers only; whoever is hostile gets no other errors of the server.
_LATER, _OURS = (429, 503), (500, 502)


@dataclass
class Found:
    """What has come of it so far."""

    honest: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    memory_mb: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Return the counts, to be printed."""
        return {
            "honest": dict(self.honest),
            "hostile": dict(sorted(self.hostile.items())),
            "errors": self.errors[:20],
            "memory_mb": self.memory_mb,
        }


@dataclass(frozen=True)
class Target:
    """The server, and bodies that it would answer, to be damaged."""

    port: int
    model: str
    samples: list[Request]
    rng: random.Random
    found: Found

    def note(self, attack: str, outcome: str) -> None:
        """Count an outcome of an attack; an error of the server is kept."""
        self.found.hostile[f"{attack} {outcome}"] += 1
        if outcome in map(str, _OURS):
            self.found.errors.append(f"{attack}: {outcome}")

    @asynccontextmanager
    async def connect(
        self, source: str, receive_buffer: int = 0
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection from an address."""
        with socket.socket() as connection:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.setblocking(False)
            connection.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
            reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 16)
            try:
                yield reader, writer
            finally:
                writer.transport.abort()

    def head(self, request: Request, length: int, more: str = "") -> bytes:
        """Return the head of a request for a body of ``length`` bytes."""
        lines = [f"POST {request.path.format(model=self.model)} HTTP/1.1", "host: x", more]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"content-length: {length}", "connection: close", "", ""]
        return "\r\n".join(line for line in lines[:-2] if line).encode() + b"\r\n\r\n"


def damage(body: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite, repeat or fill some of it."""
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(max(1, len(data))), rng.randint(1, 64)
        what = rng.randrange(6)
        if what == 0:
            del data[at:]
        elif what == 1:
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\x80\0\0\0"])
        elif what == 2:
            data[at : at + size] = rng.randbytes(size)
        elif what == 3:
            del data[at : at + size]
        elif what == 4:
            data[at:at] = data[at : at + size] * rng.randint(1, 40)
        else:
            head = rng.randrange(min(256, len(data) or 1))
            data[head : head + 1] = bytes([rng.randrange(256)])
    return bytes(data)


async def _outcome(reader: asyncio.StreamReader) -> str:
    """The status of the answer, all of which is read."""
    head = await reader.read(1 << 16)
    while await reader.read(1 << 16):
        pass
    return head.split(maxsplit=2)[1].decode() if head.startswith(b"HTTP/") else "closed"


async def send_damaged(target: Target) -> None:
    """Send a damaged body, as it is, in a form, or compressed."""
    rng, request = target.rng, target.rng.choice(target.samples)
    body, more = damage(request.body, rng), ""
    wrapping = rng.randrange(4)
    if wrapping == 1:
        body = damage(as_form(request.body), rng)
        more = "content-type: multipart/form-data; boundary=bench"
        request = Request(request.path, body, {}, request.read, request.expected)
    elif wrapping == 2:
        body, more = damage(gzip.compress(request.body, 1), rng), "content-encoding: gzip"
    elif wrapping == 3:
        body, more = gzip.compress(body, 1), "content-encoding: gzip"
    async with target.connect("127.0.0.10") as (reader, writer):
        writer.write(target.head(request, len(body), more) + body)
        target.note("damaged", await _outcome(reader))


async def leave_upload(target: Target) -> None:
    """Send a part of a body, and then a reset, an end, or nothing for a while."""
    rng, request = target.rng, target.rng.choice(target.samples)
    async with target.connect("127.0.0.11") as (_, writer):
        part = request.body[: rng.randrange(len(request.body) + 1)]
        writer.write(target.head(request, len(request.body)) + part)
        await writer.drain()
        await asyncio.sleep(rng.choice([0.0, 0.05, 1.0]))
        if rng.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        target.note("upload", "left")


async def read_slowly(target: Target) -> None:
    """Ask for a large answer and take some bytes of it every second."""
    body = npy(np.zeros((6000, 41), np.float16))
    kind = target.rng.choice(["application/json", "application/x-npy"])
    request = Request("/v1/posteriors", body, {"accept": kind}, target.samples[0].read, np.empty(0))
    async with target.connect("127.0.0.12", receive_buffer=4096) as (reader, writer):
        head = target.head(request, len(body), "content-type: application/x-npy")
        writer.write(head + body)
        for _ in range(target.rng.randint(1, 15)):
            if not await reader.read(100):
                break
            await asyncio.sleep(1)
        target.note("slow", "left")


async def send_head_slowly(target: Target) -> None:
    """Send a head that does not end, or is none."""
    async with target.connect("127.0.0.13") as (reader, writer):
        lines = target.head(target.rng.choice(target.samples), 10)
        writer.write(damage(lines, target.rng))
        await asyncio.sleep(0.5)
        if writer.can_write_eof():
            writer.write_eof()
        target.note("head", await _outcome(reader))


async def flood(target: Target) -> None:
    """Send requests on many connections at a time, from one address."""

    async def one() -> None:
        request = target.rng.choice(target.samples)
        async with target.connect("127.0.0.14") as (reader, writer):
            writer.write(target.head(request, len(request.body)) + request.body)
            target.note("flood", await _outcome(reader))

    await asyncio.gather(*(one() for _ in range(FLOOD_CONNECTIONS)), return_exceptions=True)


Attack = Callable[[Target], Awaitable[None]]
# Of a hundred: a flood is FLOOD_CONNECTIONS of them.
ATTACKS: dict[Attack, int] = {
    send_damaged: 60,
    leave_upload: 20,
    read_slowly: 8,
    send_head_slowly: 11,
    flood: 1,
}


async def attack(target: Target, rate: float, until: float) -> None:
    """Start ``rate`` attacks a second, of which a bounded number goes on at a time."""
    running: set[asyncio.Task[None]] = set()
    started, sent = time.monotonic(), 0
    while time.monotonic() < until:
        (chosen,) = target.rng.choices([*ATTACKS], [*ATTACKS.values()])
        if len(running) < 200:
            task = asyncio.ensure_future(_attempt(chosen, target))
            running.add(task)
            task.add_done_callback(running.discard)
        sent += FLOOD_CONNECTIONS if chosen is flood else 1
        await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _attempt(chosen: Attack, target: Target) -> None:
    try:
        async with asyncio.timeout(90):
            await chosen(target)
    except OSError as error:  # a TimeoutError is one
        target.note(chosen.__name__, type(error).__name__)


async def be_honest(
    port: int, number: int, model: str, requests: Iterator[Request], until: float, found: Found
) -> None:
    """Ask, compare, ask the next; what is refused for now is asked again when the server says."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number + 1}")
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=90) as client:
        for request in requests:
            if time.monotonic() > until:
                return
            found.honest[await _asked(client, request, model, number, found)] += 1
            await asyncio.sleep(0.2)


async def _asked(client: httpx.AsyncClient, request: Request, model: str, number: int, found: Found) -> str:
    path = request.path.format(model=model)
    try:
        answer = await client.post(path, content=request.body, headers=request.headers)
        if answer.status_code in _LATER:
            await asyncio.sleep(min(10.0, float(answer.headers.get("retry-after", 1))))
            return f"asked to come later ({answer.status_code})"
        right = answer.status_code == 200 and np.array_equal(request.read(answer), request.expected)
    except (httpx.TransportError, ValueError, KeyError) as error:
        found.errors.append(f"honest {number}: {type(error).__name__}: {error}")
        return "no answer"
    if not right:
        found.errors.append(f"honest {number}: {answer.status_code} {answer.text[:200]!r}")
    return "right" if right else "wrong"


async def watch(processes: Callable[[], list[psutil.Process]], seconds: float, found: Found) -> None:
    """Note memory at 10, 50 and 100 % of the time: the least, median and most of the minute before.

    What answers need comes and goes: the least tells what is left when they are gone.
    """
    started = time.monotonic()
    marks = {0.1 * seconds: "10 %", 0.5 * seconds: "50 %", seconds - 1: "100 %"}
    reports = set(np.arange(_REPORT_S, seconds, _REPORT_S).tolist())
    looks = set(np.arange(_LOOK_S, seconds, _LOOK_S).tolist())
    seen: deque[dict[str, float]] = deque(maxlen=round(60 / _LOOK_S))
    for at in sorted(marks.keys() | reports | looks):
        await asyncio.sleep(max(0.0, started + at - time.monotonic()))
        with contextlib.suppress(psutil.NoSuchProcess):  # one that is being replaced
            seen.append(_memory(processes()))
        if at in marks:
            of_name = {name: [held[name] for held in seen if name in held] for name in seen[-1]}
            found.memory_mb[marks[at]] = {
                name: [min(held), statistics.median(held), max(held)] for name, held in of_name.items()
            }
        if at in reports:
            print(json.dumps(found.report()), file=sys.stderr, flush=True)


def _memory(processes: list[psutil.Process]) -> dict[str, float]:
    held = [process.memory_info().rss / 1e6 for process in processes]
    names = ["server", *(f"audio process {number}" for number in range(1, len(held)))]
    return {name: round(megabytes, 1) for name, megabytes in zip(names, held, strict=True)}


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run honest and hostile clients beside each other for ``--minutes``."""
    scorer = AcousticScorer.load(arguments.model, "cpu", 1)
    requests = make_requests(scorer, NUM_HONEST * NUM_UTTERANCES)
    found, seconds, model = Found(), 60 * arguments.minutes, arguments.model.stem

    async def main(port: int) -> None:
        until = time.monotonic() + seconds
        samples = make_requests(scorer, 12)
        target = Target(port, model, samples, random.Random(arguments.seed), found)
        # Of every kind of request some, and none of them another client's.
        firsts = range(0, len(requests), NUM_UTTERANCES)
        own = [requests[first : first + NUM_UTTERANCES] for first in firsts]
        await asyncio.gather(
            *(
                be_honest(port, number, model, itertools.cycle(one), until, found)
                for number, one in enumerate(own)
            ),
            attack(target, arguments.rate, until),
            watch(lambda: server_processes(port), seconds, found),
        )

    with server("asr-bn", arguments.model, "cpu", arguments.log, **_SETTINGS) as port:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(port))
        alive = httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    wrong = found.honest["wrong"] + found.honest["no answer"] + len(found.errors)
    return found.report() | {"alive": alive, "passed": alive and not wrong}
