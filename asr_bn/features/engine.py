"""Running a computation over chunks of utterances in this process or in several, results in order."""

import collections
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from asr_bn.features.computation import Chunk, Computation
from asr_bn.kaldi_io.data_dir import Utterance

_AHEAD = 3  # chunks in flight for each process: memory stays bounded, however large the corpus
_computation: Computation | None = None


def run_chunks(
    computation: Computation, chunks: Iterable[list[Utterance]], num_jobs: int
) -> Iterator[Chunk]:
    """Compute ``chunks`` with ``num_jobs`` processes (1: this one) and yield the results in order.

    Raises:
        ValueError: an utterance cannot be computed, or a process died (out of memory, say).
    """
    if num_jobs < 1:
        raise ValueError(f"{num_jobs} processes: expected at least 1")
    if num_jobs == 1:
        yield from map(computation.chunk, chunks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_jobs, mp_context=context, initializer=_start, initargs=(computation,))
    try:
        yield from _in_order(pool, chunks, num_jobs * _AHEAD)
    except BrokenProcessPool as error:
        raise ValueError("a process that computed features died (out of memory?)") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterable[list[Utterance]], num_ahead: int
) -> Iterator[Chunk]:
    pending: collections.deque[Future[Chunk]] = collections.deque()
    for chunk in chunks:
        pending.append(pool.submit(_compute, chunk))
        if len(pending) >= num_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _start(computation: Computation) -> None:
    global _computation
    _computation = computation
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its processes, and they would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _compute(utterances: list[Utterance]) -> Chunk:
    if _computation is None:
        raise ValueError("this process was not started by run_chunks")
    return _computation.chunk(utterances)
