"""Running a computation over chunks of utterances: in this process, in several, or on Ray; in order."""

import collections
import mmap
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from asr_bn.extraction.computation import Chunk, Computation, Entry
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.system.memory import keep_freed_memory

ENGINES = ("processes", "ray")
_AHEAD = 3  # chunks in flight for each process: memory stays bounded, however large the corpus
_Handle = TypeVar("_Handle")
_computation: Computation | None = None
_spool: Path | None = None


def run_chunks(
    computation: Computation,
    chunks: Iterable[list[Utterance]],
    num_jobs: int,
    spool: Path,
    engine: str = "processes",
) -> Iterator[Chunk]:
    """Compute ``chunks`` with ``num_jobs`` processes (1: this one) and yield the results in order.

    Processes write their results to files in the empty folder ``spool``, over those already read.  A pipe
    would copy them six times, and the kernel clears the pages of a new file.  So a chunk's data are valid
    only until the next one is asked for.

    Raises:
        ValueError: an utterance cannot be computed, a process died (out of memory, say), or Ray is asked
            for and not installed.
    """
    if num_jobs < 1:
        raise ValueError(f"{num_jobs} processes: expected at least 1")
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if engine == "ray":
        yield from _run_on_ray(computation, chunks, num_jobs)
    elif num_jobs == 1:
        yield from map(computation.chunk, chunks)
    else:
        yield from _run_in_processes(computation, chunks, num_jobs, spool)


def _in_order(
    submit: Callable[[list[Utterance], int], _Handle],
    result: Callable[[_Handle], Chunk],
    chunks: Iterable[list[Utterance]],
    num_ahead: int,
) -> Iterator[Chunk]:
    """Submit each chunk with a number below ``num_ahead`` that no other chunk in flight has."""
    pending: collections.deque[_Handle] = collections.deque()
    for index, chunk in enumerate(chunks):
        pending.append(submit(chunk, index % num_ahead))
        if len(pending) >= num_ahead:
            yield result(pending.popleft())
    while pending:
        yield result(pending.popleft())


def _run_in_processes(
    computation: Computation, chunks: Iterable[list[Utterance]], num_jobs: int, spool: Path
) -> Iterator[Chunk]:
    context = multiprocessing.get_context("fork" if _may_fork() else "spawn")
    pool = ProcessPoolExecutor(
        num_jobs, mp_context=context, initializer=_start, initargs=(computation, spool)
    )
    try:
        yield from _in_order(
            lambda chunk, slot: pool.submit(_compute, chunk, slot), _collected, chunks, num_jobs * _AHEAD
        )
    except BrokenProcessPool as error:
        raise ValueError("a process that computed features died (out of memory?)") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _may_fork() -> bool:
    """Return whether this process has one thread: only then is forking safe, which saves imports."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1


def _start(computation: Computation, spool: Path) -> None:
    global _computation, _spool
    _computation, _spool = computation, spool
    keep_freed_memory()  # every utterance's arrays are large enough to be given back, and cleared anew
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit with the parent: killed, it cannot stop its processes, which would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _compute(utterances: list[Utterance], slot: int) -> tuple[list[Entry], Path]:
    if _computation is None or _spool is None:
        raise ValueError("this process was not started by run_chunks")
    path = _spool / str(slot)
    path.touch()
    with path.open("r+b") as stream:
        return _computation.write_chunk(utterances, stream), path


def _collected(future: Future[tuple[list[Entry], Path]]) -> Chunk:
    entries, path = future.result()
    size = entries[-1].end if entries else 0
    if not size:
        return Chunk(entries, b"")
    with path.open("rb") as stream:
        return Chunk(entries, mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ))


def _run_on_ray(
    computation: Computation, chunks: Iterable[list[Utterance]], num_jobs: int
) -> Iterator[Chunk]:
    """Run Ray tasks on the cluster at ``RAY_ADDRESS``, or on a local one of ``num_jobs`` processes."""
    try:
        import ray  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ValueError("--engine ray needs the package ray: pip install 'asr-bn[ray]'") from error
    local = "RAY_ADDRESS" not in os.environ
    try:
        ray.init(num_cpus=num_jobs if local else None, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # Ray raises plain ones, when its processes do not start in time for instance
        raise ValueError(f"--engine ray: Ray could not be started: {error}") from error
    try:
        shared = ray.put(computation)
        task = ray.remote(Computation.chunk)
        yield from _in_order(lambda chunk, _: task.remote(shared, chunk), ray.get, chunks, num_jobs * _AHEAD)
    except ray.exceptions.RayTaskError as error:
        raise ValueError(str(error.cause)) from error
    finally:
        ray.shutdown()
