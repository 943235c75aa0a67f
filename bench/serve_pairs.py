"""The server of this checkout beside that of another one: what a request takes of each, in turns.

    python -m bench.serve_pairs --other CHECKOUT MODEL.onnx --pairs 400 --seconds 5 --turns 8

Both servers run all the time; each request of a kind is asked of both, one right after the other, first of
this one and first of the other in turn.  Told are the median milliseconds of each, the median of the pairs'
differences (ours less the other's) and its standard error, and the processor time of a request in all
processes of each, which tells more where the machine is busy; then, of 8 clients, our requests a second over
the other's, the median of ``--turns``.  Both run in this Python, and both must be able to load the model.
"""

import argparse
import asyncio
import itertools
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil

from bench.peers.batch import npy
from bench.serve import NPY, ask, ask_blocking, head_of, server, utterances, wav
from bench.serve_processes import server_processes

CLIENTS = 8


def kinds(num_features: int) -> dict[str, tuple[bytes, list[bytes]]]:
    """Return the head and bodies of each kind of request."""
    feats = utterances(64, num_features)
    audio = [wav(len(one) / 100, 16000) for one in feats]
    path = "/v1/posteriors"
    return {
        "npy": (head_of(path, NPY, NPY), [npy(one) for one in feats]),
        "WAV": (head_of(path, "audio/wav", NPY), audio),
        "WAV, top_k=1 in JSON": (head_of(f"{path}?top_k=1", "audio/wav", "application/json"), audio),
    }


def pairs(ports: list[int], requests: Sequence[tuple[bytes, bytes]], count: int) -> dict[str, float]:
    """Ask each request of its server, one for each of the two, and return their medians in milliseconds."""
    found: list[tuple[float, float]] = []
    processes, spent = [server_processes(port) for port in ports], [0.0, 0.0]
    buffer = bytearray(1 << 26)
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for port in ports]
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(-20, count):  # the first are to warm up
            if turn == 0:
                spent = [cpu_s(some) for some in processes]
            request = requests[turn % len(requests)]
            took = [0.0, 0.0]
            for which in (0, 1) if turn % 2 else (1, 0):
                started = time.perf_counter()
                status = ask_blocking(connections[which], request[which], buffer)[:12]
                if status != "http/1.1 200":
                    raise ValueError(f"the server answered {status}")
                took[which] = 1000 * (time.perf_counter() - started)
            found += [(took[0], took[1])] if turn >= 0 else []
    ours, others = np.transpose(found)
    cpu_ms = [1000 * (cpu_s(some) - before) / count for some, before in zip(processes, spent, strict=True)]
    differences = ours - others
    spread = np.subtract(*np.percentile(differences, [75, 25])) / 1.349
    return {
        "ours_ms": float(np.median(ours)),
        "other_ms": float(np.median(others)),
        "difference_ms": float(np.median(differences)),
        "standard_error_ms": float(1.253 * spread / count**0.5),
        "ours_cpu_ms": cpu_ms[0],
        "other_cpu_ms": cpu_ms[1],
    }


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the processor time that they have taken."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def throughput(port: int, bodies: list[bytes], seconds: float) -> float:
    """Return the requests a second of 8 clients."""
    until, answered = time.perf_counter() + seconds, list[float]()

    def until_time_is_up() -> Iterator[bytes]:
        return itertools.takewhile(lambda _: time.perf_counter() < until, itertools.cycle(bodies))

    started = time.perf_counter()
    await asyncio.gather(*(ask(port, NPY, until_time_is_up(), answered) for _ in range(CLIENTS)))
    return len(answered) / (time.perf_counter() - started)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask both servers everything."""
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    asked = kinds(session.get_inputs()[0].shape[2])
    here = Path(__file__).resolve().parents[1]
    with ExitStack() as stack:
        ports = []
        for number, checkout in enumerate((here, arguments.other.resolve())):
            log, search = Path(f"/tmp/bench-pairs-{number}.log"), {"PYTHONPATH": str(checkout)}
            # Where `python -m` looks first.
            os.chdir(checkout)
            ports.append(stack.enter_context(server("asr-bn", arguments.model, "cpu", log, **search)))
        report: dict[str, Any] = {
            name: pairs(ports, [(head % len(body) + body,) * 2 for body in bodies], arguments.pairs)
            for name, (head, bodies) in asked.items()
        }
        rates = []
        for turn in range(arguments.turns):
            print(f"turn {turn + 1} of {arguments.turns}", file=sys.stderr)
            order = (0, 1) if turn % 2 else (1, 0)
            rate = {
                which: asyncio.run(throughput(ports[which], asked["npy"][1], arguments.seconds))
                for which in order
            }
            rates.append((rate[0], rate[1]))
    ours, others = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(our / other for our, other in rates)
    return report | {"8 clients": {"ours_per_s": ours, "other_per_s": others, "ratio": ratio}}


def main() -> None:
    """Compare, and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=lambda path: Path(path).resolve())
    parser.add_argument("--other", type=Path, required=True, help="another checkout")
    parser.add_argument("--pairs", type=int, default=400, help="of each kind of request")
    parser.add_argument("--turns", type=int, default=8, help="of 8 clients at each server")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    print(json.dumps(compare(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
