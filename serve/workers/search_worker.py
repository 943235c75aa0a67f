"""Search for words and phones, as a process: ``python -m serve.workers.search_worker MEMORY DESCRIPTOR``.

The server hands it what it searches with, in the file that the second argument numbers.  The first one is
the limit on memory, in bytes, beside that; `frames` says how it is asked.
"""

import gc
import mmap
import pickle
import sys
from pathlib import Path
from typing import TypedDict

import numpy as np
import orjson

from serve.limits.refusal import Refusal
from serve.workers.frames import Answer, Work, refusal, run
from serve.workers.searcher import Searcher


class SearchTask(TypedDict):
    """What is asked: the words of a text to be aligned; None: to be found."""

    text: list[str] | None


def work_of(searcher: Searcher) -> Work[SearchTask]:
    """Return the work on log posteriors, float32 ``[num_frames, num_pdfs]``; its answers are JSON."""

    def answer(head: SearchTask, data: bytes) -> tuple[Answer, bytes]:
        log_posteriors = np.frombuffer(data, np.float32).reshape(-1, searcher.num_pdfs)
        try:
            found = searcher.search(head["text"], log_posteriors)
        except Refusal as error:
            return refusal(error.status, error.detail), b""
        return {"status": 200}, orjson.dumps(found)

    return answer


def prepare() -> tuple[Work[SearchTask], int]:
    """Load what is searched with; return the work, and what memory it may use."""
    with mmap.mmap(int(sys.argv[2]), 0, access=mmap.ACCESS_READ) as file:
        searcher: Searcher = pickle.loads(file)
    searcher.warm_up()
    gc.freeze()  # a collection that went through a large lexicon would keep a search waiting
    return work_of(searcher), _used_bytes() + int(sys.argv[1])


def _used_bytes() -> int:
    """Return this process's address space, where Linux tells; elsewhere it is not bounded."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * mmap.PAGESIZE if statm.exists() else 0


if __name__ == "__main__":
    run(prepare)
